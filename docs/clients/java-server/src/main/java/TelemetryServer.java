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
        for (Scanner lines = new Scanner(System.in, "UTF-8"); lines.hasNextLine(); ) {
            String line = lines.nextLine().strip();
            if (line.startsWith("{") && line.getBytes("UTF-8").length < 1_000_000) { // the agent takes 1 MiB
                String reading = "{\"time\":" + System.currentTimeMillis() + "," + line.substring(1);
                if (agents.isEmpty()) System.err.println("no agent is connected: the reading waits");
                while (agents.isEmpty()) Thread.sleep(100);
                for (Session agent : agents) agent.getBasicRemote().sendText(reading);
            } else if (!line.isEmpty()) {
                System.err.printf("not sent, no JSON object or longer than 1,000,000 bytes: %.60s%n", line);
            }
        }
        server.stop();
    }
}
