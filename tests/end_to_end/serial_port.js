// Web Serial with one port, which plays lines as a board sends them: at their pace, cut anywhere. It replaces the
// browser's `navigator.serial` before the page runs. SETTINGS is written before this script: {lines, cut, period_ms, limit}
// are the lines, the most bytes of a read, the time between two reads, and the number of lines that are sent before a
// test raises the limit.
//
// A board does not wait while its port is closed: the rest of a line that was cut is lost. The ranges of lines that were
// delivered as a whole are in the local storage, so that a test can compare them with what the hub has.
(() => {
  const KEY = "test.serial";
  const saved = JSON.parse(localStorage.getItem(KEY) ?? "{}");
  const state = { next: 0, delivered: [], isGranted: false, limit: SETTINGS.limit, ...saved };
  const save = () => localStorage.setItem(KEY, JSON.stringify(state));
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

  // A fixed sequence: a failure can be repeated.
  let seed = 7 + state.next;
  const random = (below) => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return Math.floor((seed / 0x80000000) * below);
  };

  class Port extends EventTarget {
    readable = null;
    controller = null;

    getInfo() {
      return { usbVendorId: 0x2341, usbProductId: 0x0043 };
    }

    async open({ baudRate }) {
      if (!serial.isPlugged) throw new DOMException("Failed to open serial port.", "NetworkError");
      if (this.readable !== null) throw new DOMException("The port is already open.", "InvalidStateError");
      serial.baudRate = baudRate;
      let line = state.next;
      let offset = 0;
      const take = (size) => {
        const taken = [];
        let [range] = state.delivered.slice(-1);
        if (range === undefined || range[1] !== line) state.delivered.push((range = [line, line]));
        while (taken.length < size && line < state.limit) {
          const bytes = new TextEncoder().encode(`${SETTINGS.lines[line]}\r\n`);
          const part = bytes.slice(offset, offset + size - taken.length);
          taken.push(...part);
          offset += part.length;
          if (offset < bytes.length) break;
          [line, offset] = [line + 1, 0];
          range[1] = line;
        }
        state.next = line + Math.min(offset, 1);
        save();
        return Uint8Array.from(taken);
      };
      const pull = async (controller) => {
        await wait(SETTINGS.period_ms);
        while (this.controller === controller && line >= state.limit) await wait(20);
        if (this.controller === controller) controller.enqueue(take(1 + random(SETTINGS.cut)));
      };
      const start = (controller) => {
        this.controller = controller;
      };
      const cancel = () => {
        this.controller = null;
      };
      this.readable = new ReadableStream({ start, pull, cancel }, { highWaterMark: 0 });
    }

    async close() {
      this.readable = null;
      this.controller = null;
    }
  }

  class Serial extends EventTarget {
    isPlugged = true;
    baudRate = 0;
    port = new Port();

    async getPorts() {
      return state.isGranted && this.isPlugged ? [this.port] : [];
    }

    async requestPort() {
      state.isGranted = true;
      save();
      return this.port;
    }

    send(limit) {
      state.limit = limit;
      save();
    }

    unplug() {
      this.isPlugged = false;
      const { controller } = this.port;
      this.port.readable = null;
      this.port.controller = null;
      this.port = new Port();
      controller?.error(new DOMException("The device has been lost.", "NetworkError"));
      this.dispatchEvent(new Event("disconnect"));
    }

    plug() {
      this.isPlugged = true;
      this.dispatchEvent(new Event("connect"));
    }
  }

  const serial = new Serial();
  Object.defineProperty(Navigator.prototype, "serial", { get: () => serial, configurable: true });
  window.__serial = serial;
})();
