import jakarta.websocket.*;
import jakarta.websocket.server.ServerEndpoint;
import java.util.*;
import java.util.concurrent.ConcurrentHashMap;
import org.glassfish.tyrus.server.Server;

/** Serves JSON objects from standard input, one a line, to every agent that connects. */
@ServerEndpoint("/readings")
public class TelemetryServer {
    private static final Set<Session> agents = ConcurrentHashMap.newKeySet();

    @OnOpen
    public void open(Session agent) {
        agents.add(agent);
    }

    @OnClose
    public void close(Session agent) {
        agents.remove(agent);
    }

    public static void main(String[] args) throws Exception {
        Server server = new Server("0.0.0.0", Integer.parseInt(args[0]), "/", null, TelemetryServer.class);
        server.start();
        for (Scanner lines = new Scanner(System.in); lines.hasNextLine(); ) {
            String reading = "{\"time\":" + System.currentTimeMillis() + "," + lines.nextLine().substring(1);
            while (agents.isEmpty()) Thread.sleep(100); // a reading waits until an agent is there
            for (Session agent : agents) agent.getBasicRemote().sendText(reading);
        }
        server.stop();
    }
}
