import "./styles";
import { render } from "preact";
import { useEffect } from "preact/hooks";
import { boardTab } from "./data/boards";
import { hub } from "./data/hub";
import { startTicking } from "./data/time";
import { visible } from "./data/visible_text";
import { AccessPage } from "./pages/access/page";
import { AddDevicePage } from "./pages/add_device/page";
import { BoardPage } from "./pages/board/page";
import { JobPage } from "./pages/commands/job";
import { NewJobPage } from "./pages/commands/new_job";
import { CommandsPage } from "./pages/commands/page";
import { exposeTestHook } from "./pages/device/device_data";
import { DevicePage } from "./pages/device/page";
import { FleetPage } from "./pages/fleet/page";
import { FlowPage } from "./pages/flow";
import { MqttPage } from "./pages/mqtt";
import { QuarantinePage } from "./pages/quarantine/page";
import { SignedInPage, SignInPage } from "./pages/sign_in";
import { TokensPage } from "./pages/tokens/page";
import { TryPage } from "./pages/try";
import { PageMessage } from "./ui/controls";
import { showHiddenCharacters } from "./ui/hidden_characters";
import { startTheme } from "./ui/preferences";
import { pageTitle, route, startRouting } from "./ui/route";
import { Shell } from "./ui/shell";

function App() {
  const session = hub.session.value;
  const title = session === "out" ? "Sign in" : pageTitle(route.value);
  useEffect(() => {
    document.title = visible(`${title} · Telemetry Hub`);
  }, [title]);
  if (session === "out") return <SignInPage />;
  return (
    <Shell>
      {session === "unreachable" && hub.info.value === null ? (
        <PageMessage title="The hub does not respond">
          Devices keep their readings until the connection is restored. This page retries automatically.
        </PageMessage>
      ) : (
        <Page />
      )}
    </Shell>
  );
}

function Page() {
  const shown = route.value;
  switch (shown.page) {
    case "fleet":
      return <FleetPage />;
    case "flow":
      return <FlowPage />;
    case "device":
      return <DevicePage key={shown.device} device={shown.device} />;
    case "commands":
      return <CommandsPage />;
    case "new-job":
      return <NewJobPage />;
    case "job":
      return <JobPage key={shown.job} id={shown.job} />;
    case "quarantine":
      return <QuarantinePage />;
    case "mqtt":
      return <MqttPage />;
    case "access":
      return <AccessPage />;
    case "tokens":
      return <TokensPage />;
    case "try":
      return <TryPage />;
    case "add":
      return <AddDevicePage />;
    case "board":
      return <BoardPage />;
    case "sign-in":
      return <SignedInPage />;
    case "unknown":
      return (
        <PageMessage title="Page not found" hasLink>
          The address may belong to another version of the hub.
        </PageMessage>
      );
  }
}

showHiddenCharacters();
startTheme();
startRouting();
startTicking();
exposeTestHook();
void hub.open();
void boardTab.resumeOpenBoard();
render(<App />, document.getElementById("app") as HTMLElement);
