// A WebSocket client with the interface of the library "WebSockets" for Arduino, on the sockets of a computer.
#pragma once
#include <functional>

#include "Arduino.h"

enum WStype_t { WStype_ERROR, WStype_DISCONNECTED, WStype_CONNECTED, WStype_TEXT, WStype_PING };

class WebSocketsClient {
public:
  void begin(const char *host, uint16_t port, const char *url, const char *protocol);
  void setAuthorization(const char *credential) { authorization = credential; }
  void enableHeartbeat(uint32_t ping_ms, uint32_t timeout_ms, uint8_t failures) {}
  void onEvent(std::function<void(WStype_t, uint8_t *, size_t)> handler) { event = handler; }
  void setReconnectInterval(unsigned long ms) { interval_ms = ms; }
  bool isConnected() { return socket >= 0; }
  bool sendTXT(String &text);
  void loop();
  void disconnect();
  int unanswered = 0;

private:
  bool connect();
  bool send(uint8_t opcode, const std::string &payload);
  void receive();
  std::string host, url, protocol, authorization, received;
  std::function<void(WStype_t, uint8_t *, size_t)> event;
  unsigned long interval_ms = 500;
  long long failed_ms = 0;
  uint16_t port = 0;
  int socket = -1;
};
