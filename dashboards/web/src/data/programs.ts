/** Programs that send readings without the agent: those of docs/clients, with the address of this hub and a token. */

import arduino from "../../../../docs/clients/arduino/telemetry.ino?raw";
import browser from "../../../../docs/clients/browser/telemetry.html?raw";
import curl from "../../../../docs/clients/curl/telemetry.sh?raw";
import go from "../../../../docs/clients/go/main.go?raw";
import javaProject from "../../../../docs/clients/java/pom.xml?raw";
import java from "../../../../docs/clients/java/src/main/java/Telemetry.java?raw";
import javaServerProject from "../../../../docs/clients/java-server/pom.xml?raw";
import javaServer from "../../../../docs/clients/java-server/src/main/java/TelemetryServer.java?raw";
import node from "../../../../docs/clients/node/telemetry.mjs?raw";
import python from "../../../../docs/clients/python/telemetry.py?raw";
import { webSocketUrl } from "../wire/base_path";
import { agentCommand, TOKEN_PLACEHOLDER } from "./install";

export interface ProgramFile {
  /** Its path below the folder in which the commands are run. */
  name: string;
  text: string;
}

export interface ClientProgram {
  language: string;
  files: ProgramFile[];
  /** Commands that install what the program needs and send a first reading; each is copied by itself. */
  commands: string[];
  /** What to do by hand instead, or before. */
  note: string;
}

/** The readings that a program sends are lines of its standard input. */
const READING = `'{"temperature": 21.5}'`;

/** Return the programs for the hub at `url`, the easiest first. Without a token they contain a placeholder. */
export function clientPrograms(url: string, device: string, token: string | null): ClientProgram[] {
  const secret = token ?? TOKEN_PLACEHOLDER;
  const plain = webSocketUrl(url, "/v1/plain");
  const readings = `${url}/api/v1/readings`;
  const run = (program: string, endpoint = plain) =>
    `echo ${READING} | HUB_URL=${endpoint} HUB_TOKEN=${secret} ${program}`;
  return [
    {
      language: "curl",
      files: [{ name: "telemetry.sh", text: curl }],
      commands: [
        `curl -H "Authorization: Bearer ${secret}" -d ${READING} ${readings}`,
        run("bash telemetry.sh", readings),
      ],
      note: "One request sends a reading. The script sends lines, and repeats what the hub has not answered.",
    },
    {
      language: "Python",
      files: [{ name: "telemetry.py", text: python }],
      commands: [`pip install websocket-client\n${run("python3 telemetry.py")}`],
      note: "",
    },
    {
      language: "Node.js",
      files: [{ name: "telemetry.mjs", text: node }],
      commands: [`npm install ws\n${run("node telemetry.mjs")}`],
      note: "",
    },
    {
      language: "Java",
      files: [
        { name: "src/main/java/Telemetry.java", text: java },
        { name: "pom.xml", text: javaProject },
      ],
      commands: [`mvn --quiet compile\n${run("java -cp 'target/classes:target/lib/*' Telemetry")}`],
      note: "",
    },
    {
      language: "Java server",
      files: [
        { name: "src/main/java/TelemetryServer.java", text: javaServer },
        { name: "pom.xml", text: javaServerProject },
      ],
      commands: [
        `mvn --quiet compile\necho ${READING} | java -cp 'target/classes:target/lib/*' TelemetryServer 8025`,
        agentCommand(url, device, token, "websocket ws://127.0.0.1:8025/readings"),
      ],
      note: "The program does not connect, but is connected to: the agent, installed as for a computer, reads it.",
    },
    {
      language: "Go",
      files: [{ name: "main.go", text: go }],
      commands: [`go mod init telemetry && go get github.com/gorilla/websocket\n${run("go run .")}`],
      note: "",
    },
    {
      language: "Browser",
      files: [{ name: "telemetry.html", text: browser.replace("ws://127.0.0.1:8600/v1/plain", plain) }],
      commands: [secret],
      note: "Open the file in a browser, paste this token, and press Send.",
    },
    { language: "Arduino, ESP", files: [{ name: "telemetry.ino", text: sketch(url, secret) }], ...ARDUINO },
  ];
}

const ARDUINO = {
  commands: [],
  note: "Set the name and the password of your network. It sends the value of a pin once a second.",
};

/** Return the sketch for this hub. The library for TLS takes the same arguments, and is called differently. */
function sketch(url: string, token: string): string {
  const { protocol, hostname, port, pathname } = new URL(url);
  const secure = protocol === "https:";
  return arduino
    .replace("YOUR-TOKEN", token)
    .replace("hub.begin(", secure ? "hub.beginSSL(" : "hub.begin(")
    .replace(`"YOUR-HUB", 8600`, `"${hostname}", ${port || (secure ? 443 : 80)}`)
    .replace(`"/v1/plain", `, `"${pathname.replace(/\/$/, "")}/v1/plain", ${secure ? "nullptr, " : ""}`);
}
