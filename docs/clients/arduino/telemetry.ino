// Send the value of pin A0 to a Telemetry Hub once a second. Library Manager: install "WebSockets" by Markus Sattler.
#include <WiFi.h>  // ESP8266: <ESP8266WiFi.h>
#include <WebSocketsClient.h>
#include <deque>
WebSocketsClient hub;
std::deque<String> waiting;  // readings that the hub has not answered; if there are 500, no more are taken
size_t sent = 0;             // how many of them are in the frame that waits for its answer
unsigned long measured = 0, answered = 0, online = 1;
void onEvent(WStype_t type, uint8_t *payload, size_t length) {
  if (type != WStype_TEXT) return;
  Serial.println((char *)payload);
  if (!strstr((char *)payload, "\"ok\"") && !strstr((char *)payload, "\"refused\"")) return hub.disconnect();
  waiting.erase(waiting.begin(), waiting.begin() + sent);
  sent = 0, answered = millis();
}

void setup() {
  Serial.begin(115200);
  WiFi.begin("YOUR-NETWORK", "YOUR-PASSWORD");
  configTime(0, 0, "pool.ntp.org");
  hub.begin("YOUR-HUB", 8600, "/v1/plain", "telemetry.plain");
  hub.setAuthorization("Bearer YOUR-TOKEN");
  hub.enableHeartbeat(20000, 10000, 1);
  hub.onEvent(onEvent);
}

void loop() {
  hub.setReconnectInterval(constrain((millis() - answered) / 2, 500, 30000));  // a back-off
  if (online != hub.isConnected())  // then what has no answer is sent again
    sent = 0, Serial.println((online = !online) ? "connected" : "no connection: check network, address and token");
  hub.loop();
  if (millis() - measured >= 1000 && time(nullptr) > 1700000000 && waiting.size() < 500) {  // the clock is set
    measured = millis();
    waiting.push_back(String("{\"time\":") + (uint32_t)time(nullptr) + ",\"level\":" + analogRead(A0) + "}");
  }
  if (sent > 0 || waiting.empty() || !hub.isConnected()) return;
  String frame;
  for (; sent < waiting.size() && sent < 50; sent++) frame += String(sent ? "," : "[") + waiting[sent];
  hub.sendTXT(frame += "]");
}
