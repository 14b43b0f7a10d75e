/** One WebSocket of the browser, as this application's own words. */

export interface SocketEvents {
  opened(): void;
  text(frame: string): void;
  binary(frame: ArrayBuffer): void;
  /** Once, however the connection ended; 1006 when it broke. */
  closed(code: number, reason: string): void;
}

export interface Socket {
  send(frame: string): void;
  /** Ends the connection; `closed` follows at once and does not wait for the other end. */
  close(code: number): void;
}

export function openSocket(url: string, subprotocol: string, events: SocketEvents): Socket {
  const socket = new WebSocket(url, subprotocol);
  socket.binaryType = "arraybuffer";
  let ended = false;
  const end = (code: number, reason: string) => {
    if (ended) return;
    ended = true;
    events.closed(code, reason);
  };
  socket.onopen = () => events.opened();
  socket.onclose = (event) => end(event.code, event.reason);
  socket.onmessage = (event: MessageEvent<string | ArrayBuffer>) => {
    if (ended) return;
    if (typeof event.data === "string") events.text(event.data);
    else events.binary(event.data);
  };
  return {
    send: (frame) => {
      if (socket.readyState === WebSocket.OPEN) socket.send(frame);
    },
    close: (code) => {
      socket.close(code);
      // A connection that broke takes a minute to notice it; nobody waits for that.
      end(code, "");
    },
  };
}

/** Where the live endpoint is: on the server that this page came from. */
export function liveUrl(location: Location): string {
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/live`;
}
