import jakarta.websocket.*; // Send JSON objects from standard input, one a line, to a Telemetry Hub.
import java.util.*;
import java.util.concurrent.*;
@ClientEndpoint(configurator = Telemetry.class)
public class Telemetry extends ClientEndpointConfig.Configurator {
    static final BlockingQueue<String> readings = new ArrayBlockingQueue<>(10_000); // if it is full, the input waits
    final BlockingQueue<String> answers = new LinkedBlockingQueue<>(List.of("connected"));
    @Override public void beforeRequest(Map<String, List<String>> headers) {
        headers.put("Authorization", List.of("Bearer " + System.getenv("HUB_TOKEN")));
    }
    @OnMessage public void receive(String answer) { answers.add(answer); }
    @OnClose public void close() { answers.add(""); }
    public static void main(String[] args) throws Exception {
        Executors.newSingleThreadExecutor().submit(() -> {
            for (Scanner lines = new Scanner(System.in, "UTF-8"); lines.hasNextLine(); ) {
                String line = lines.nextLine().strip();
                if (line.startsWith("{") && line.getBytes("UTF-8").length < 250_000) // the hub takes 256 KiB
                    readings.put("{\"time\":" + System.currentTimeMillis() + "," + line.substring(1));
                else if (!line.isEmpty()) System.err.printf("not sent, no JSON object or too long: %.60s%n", line);
            }
            readings.put(""); return null; });
        WebSocketContainer hubs = ContainerProvider.getWebSocketContainer();
        List<String> batch = new ArrayList<>(); // it waits for its answer; after a break it is sent again
        for (long last = System.currentTimeMillis(); ; ) {
            Telemetry client = new Telemetry();
            try (Session hub = hubs.connectToServer(client, java.net.URI.create(System.getenv("HUB_URL")))) {
                for (String answer; !(answer = client.answers.take()).isEmpty(); ) {
                    System.out.println(answer);
                    if (answer.matches(".*\"(ok|refused)\".*")) { batch.clear(); last = System.currentTimeMillis(); }
                    else if (!answer.equals("connected")) break; // the hub cannot store it now
                    while (batch.isEmpty() || batch.size() < 100 && readings.size() > 1
                            && (batch + readings.peek()).length() < 80_000) batch.add(readings.take());
                    if (batch.get(0).isEmpty()) System.exit(0);
                    hub.getBasicRemote().sendText(batch.toString());
                }
            } catch (Exception error) { System.err.println(error + " " + error.getCause()); }
            Thread.sleep((long) (Math.random() * Math.min(500 + System.currentTimeMillis() - last, 30_000)));
        }
    }
}
