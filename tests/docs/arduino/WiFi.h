#pragma once
struct Network {
  void begin(const char *name, const char *password) {}
};
extern Network WiFi;
