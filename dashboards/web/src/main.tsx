import "uplot/dist/uPlot.min.css";
import "./styles/tokens.css";
import "./styles/fonts.css";
import "./styles/base.css";
import "./styles/shell.css";
import "./styles/fleet.css";
import "./styles/device.css";
import "./styles/flow.css";
import "./styles/chart.css";
import "./styles/quarantine.css";
import "./styles/mqtt.css";
import "./styles/overlay.css";
import { render } from "preact";
import { hub } from "./data/hub";
import { startTicking } from "./data/time";
import { exposeTestHook } from "./pages/device/device_data";
import { DevicePage } from "./pages/device/page";
import { FleetPage } from "./pages/fleet/page";
import { FlowPage } from "./pages/flow";
import { MqttPage } from "./pages/mqtt";
import { QuarantinePage } from "./pages/quarantine/page";
import { SignInPage } from "./pages/sign_in";
import { startTheme } from "./ui/preferences";
import { route, startRouting } from "./ui/route";
import { Shell } from "./ui/shell";

startTheme();
startRouting();
startTicking();
exposeTestHook();
void hub.open();
render(<App />, document.getElementById("app") as HTMLElement);

export function App() {
  const session = hub.session.value;
  if (session === "out") return <SignInPage />;
  const shown = route.value;
  return (
    <Shell>
      {session === "unreachable" && hub.info.value === null ? (
        <div class="message">
          <h1>The hub does not answer</h1>
          <p>Devices keep their readings until it is back. This page tries again by itself.</p>
        </div>
      ) : (
        <>
          {shown.page === "fleet" && <FleetPage />}
          {shown.page === "flow" && <FlowPage />}
          {shown.page === "device" && <DevicePage key={shown.device} device={shown.device} />}
          {shown.page === "quarantine" && <QuarantinePage />}
          {shown.page === "mqtt" && <MqttPage />}
          {shown.page === "unknown" && (
            <div class="message">
              <h1>There is no such page</h1>
              <p>The address may be from another version of the hub.</p>
              <a class="button" href="/">
                Go to the fleet
              </a>
            </div>
          )}
        </>
      )}
    </Shell>
  );
}
