// The parts of the Arduino core that the sketch of docs/clients uses, for a computer. Its clock runs from one reading to
// the next: a second passes as soon as standard input has the next value of the pin.
#pragma once
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <deque>
#include <cstring>
#include <string>
#include <type_traits>

class String : public std::string {
public:
  String(const char *text = "") : std::string(text) {}
  String(const std::string &text) : std::string(text) {}
  String &operator+=(const std::string &more) {
    append(more);
    return *this;
  }
};

template <typename Number, typename = std::enable_if_t<std::is_arithmetic_v<Number>>>
String operator+(const String &text, Number number) {
  return text + std::to_string(number);
}

template <typename Number, typename Low, typename High>
Number constrain(Number number, Low low, High high) {
  return number < Number(low) ? Number(low) : number > Number(high) ? Number(high) : number;
}

struct Console {
  void begin(unsigned long) {}
  void println(const char *line) {
    std::puts(line);
    std::fflush(stdout);
  }
};

extern Console Serial;
const int A0 = 17;
unsigned long millis();
int analogRead(int pin);
void configTime(long offset, int daylight, const char *server);
