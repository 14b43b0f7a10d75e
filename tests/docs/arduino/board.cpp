// The board: it runs the sketch. HUB_HOST, HUB_PORT and HUB_TOKEN replace what a person writes into the sketch. It ends
// after the last value of standard input when the hub has answered everything.
#include "Arduino.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>

#include "WebSocketsClient.h"
#include "WiFi.h"

const int FASTER = 20;  // than the clock of a wall, for the waits before a connection
const int LOOPS_AT_THE_END = 100;

Console Serial;
Network WiFi;
extern WebSocketsClient hub;
void setup();
void loop();

static unsigned long clock_ms = 0;
static bool is_read = true;  // whether the sketch has read the pin since the last second passed
static bool at_end = false;

unsigned long millis() { return clock_ms; }
void configTime(long, int, const char *) {}

int analogRead(int) {
  is_read = true;
  int value = 0;
  at_end = std::scanf("%d", &value) != 1;
  if (at_end) std::_Exit(1);  // a second passed without a value: an error of this program
  return value;
}

static bool has_value() {
  static int next = EOF;
  pollfd input = {0, POLLIN, 0};
  if (poll(&input, 1, 0) <= 0) return false;
  next = std::getchar();
  while (next == '\n') {
    if (poll(&input, 1, 0) <= 0) return false;
    next = std::getchar();
  }
  at_end = next == EOF;
  if (!at_end) std::ungetc(next, stdin);
  return !at_end;
}

int main() {
  std::setvbuf(stdin, nullptr, _IONBF, 0);  // poll sees what is not read yet
  setup();
  for (int idle = 0; idle < LOOPS_AT_THE_END;) {
    if (is_read && !at_end && has_value()) {
      clock_ms += 1000;
      is_read = false;
    } else {
      usleep(500);
    }
    loop();
    idle = at_end && is_read && hub.isConnected() && hub.unanswered == 0 ? idle + 1 : 0;
  }
}

static long long wall_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count();
}

static std::string setting(const char *name) {
  const char *value = std::getenv(name);
  return value ? value : "";
}

void WebSocketsClient::begin(const char *, uint16_t, const char *path, const char *offered) {
  host = setting("HUB_HOST");
  port = std::atoi(setting("HUB_PORT").c_str());
  url = path;
  protocol = offered;
  authorization.clear();  // as in the library, which forgets a credential that was set before
}

void WebSocketsClient::loop() {
  if (socket >= 0) {
    receive();
  } else if (wall_ms() - failed_ms >= (long long)interval_ms / FASTER) {
    if (connect()) {
      unanswered = 0;
      event(WStype_CONNECTED, nullptr, 0);
    } else {
      disconnect();
    }
  }
}

bool WebSocketsClient::connect() {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  inet_pton(AF_INET, host.c_str(), &address.sin_addr);
  socket = ::socket(AF_INET, SOCK_STREAM, 0);
  if (::connect(socket, (sockaddr *)&address, sizeof address) < 0) return false;
  std::string credential = authorization;
  size_t place = credential.find("YOUR-TOKEN");
  if (place != std::string::npos) credential.replace(place, 10, setting("HUB_TOKEN"));
  std::string request = "GET " + url + " HTTP/1.1\r\nHost: " + host + ":" + std::to_string(port) +
                        "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\nSec-WebSocket-Protocol: " +
                        protocol + "\r\nOrigin: file://\r\nUser-Agent: arduino-WebSocket-Client\r\nAuthorization: " +
                        credential + "\r\n\r\n";
  if (::send(socket, request.data(), request.size(), MSG_NOSIGNAL) < 0) return false;
  received.clear();
  char byte;
  while (received.find("\r\n\r\n") == std::string::npos) {
    if (recv(socket, &byte, 1, 0) != 1) return false;
    received += byte;
  }
  bool accepted = received.rfind("HTTP/1.1 101 ", 0) == 0;
  received.clear();
  return accepted;
}

bool WebSocketsClient::sendTXT(String &text) {
  unanswered++;
  return send(1, text);
}

bool WebSocketsClient::send(uint8_t opcode, const std::string &payload) {
  std::string frame(1, char(0x80 | opcode));
  if (payload.size() < 126) {
    frame += char(0x80 | payload.size());
  } else {
    frame += char(0x80 | 126);
    frame += char(payload.size() >> 8);
    frame += char(payload.size() & 0xff);
  }
  const char mask[] = {1, 2, 3, 4};
  frame.append(mask, 4);
  for (size_t i = 0; i < payload.size(); i++) frame += char(payload[i] ^ mask[i % 4]);
  if (::send(socket, frame.data(), frame.size(), MSG_NOSIGNAL) == ssize_t(frame.size())) return true;
  disconnect();
  return false;
}

void WebSocketsClient::receive() {
  char buffer[4096];
  ssize_t count = recv(socket, buffer, sizeof buffer, MSG_DONTWAIT);
  if (count == 0 || (count < 0 && errno != EAGAIN && errno != EWOULDBLOCK)) {
    disconnect();
    return;
  }
  if (count > 0) received.append(buffer, count);
  while (socket >= 0 && received.size() >= 2) {
    uint8_t opcode = received[0] & 0x0f;
    size_t length = uint8_t(received[1]), head = 2;
    if (length == 126) {
      if (received.size() < 4) return;
      length = uint8_t(received[2]) << 8 | uint8_t(received[3]);
      head = 4;
    }
    if (received.size() < head + length) return;
    std::string payload = received.substr(head, length);
    received.erase(0, head + length);
    if (opcode == 1) {
      unanswered--;
      event(WStype_TEXT, (uint8_t *)payload.c_str(), length);
    }
    if (opcode == 9) send(10, payload);
    if (opcode == 8) disconnect();
  }
}

void WebSocketsClient::disconnect() {
  if (socket >= 0) close(socket);
  socket = -1;
  failed_ms = wall_ms();
  event(WStype_DISCONNECTED, nullptr, 0);
}
