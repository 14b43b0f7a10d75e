/** Frame of every page: navigation rail, header, connection indicator and banners. */

import { type Signal, signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { TimeView } from "../chart/time_view";
import { loadAccessRequests, waitingRequests } from "../data/access_requests";
import { signOut } from "../data/api";
import { boardTab } from "../data/boards";
import { conditionOf } from "../data/fleet";
import { hub } from "../data/hub";
import { count, plural } from "../data/number_format";
import { Poller } from "../data/poller";
import { withBase } from "../wire/base_path";
import { Icon, Logo, Shape } from "./icon";
import { openPalette, Palette, paletteOpen } from "./palette";
import { nextTheme, recentDevices, theme } from "./preferences";
import { devicePath, pageTitle, parentPage, route, shownPages } from "./route";
import { ConnectionIndicator, OfflineBanner, ProblemBanner } from "./status";
import { TimeRangePicker } from "./time_range_picker";

/** Time view of the current page; null for a page without charts. */
export const pageView = signal<Signal<TimeView> | null>(null);

export function Shell({ children }: { children: ComponentChildren }) {
  useEffect(() => {
    document.addEventListener("keydown", onShortcut);
    return () => document.removeEventListener("keydown", onShortcut);
  }, []);
  return (
    <div class="app">
      <Rail />
      <div class="side">
        <Header />
        <OfflineBanner />
        <ProblemBanner />
        <main class="content">{children}</main>
      </div>
      <Palette />
    </div>
  );
}

function onShortcut(event: KeyboardEvent): void {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    paletteOpen.value = !paletteOpen.value;
    return;
  }
  const typing = event.target instanceof Element && event.target.closest("input, textarea, select") !== null;
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey || paletteOpen.value) return;
  event.preventDefault();
  const field = document.querySelector<HTMLInputElement>("[data-search]");
  if (field !== null) field.focus();
  else openPalette();
}

/** Pages that the bar of a phone has no room for: its menu lists them. */
const WIDE_PAGES: readonly string[] = ["mqtt", "tokens", "try", "board", "access"];

/** The page Access asks more often. A person at a device waits for the row there, not for this number. */
const ACCESS_PERIOD_MS = 10_000;

/** Keep the number of access requests up to date, for those who decide about them. */
function useAccessRequests(): void {
  const canDecide = hub.canOperate;
  const [poller] = useState(() => new Poller(loadAccessRequests, ACCESS_PERIOD_MS));
  useEffect(() => (canDecide ? poller.start() : undefined), [canDecide, poller]);
}

/** The number of access requests that wait; nothing without one. */
function WaitingRequests() {
  const waiting = waitingRequests.value;
  if (waiting === 0) return null;
  return (
    <span class="rail-count" data-testid="waiting-requests">
      <span aria-hidden="true">{count(waiting)}</span>
      <span class="hidden-text">, {plural(waiting, "device asks", "devices ask")} for access</span>
    </span>
  );
}

function Rail() {
  useAccessRequests();
  return (
    <nav class="rail" aria-label="Pages">
      <div class="rail-hub row">
        <Logo />
        <span class="name ellipsis" data-testid="hub-name">
          {hub.info.value?.name ?? ""}
        </span>
      </div>
      {shownPages().map(({ page, title, path, icon }) => (
        <a
          key={page}
          class={WIDE_PAGES.includes(page) ? "rail-item rail-wide" : "rail-item"}
          href={withBase(path)}
          aria-current={isCurrent(page) ? "page" : undefined}
        >
          <Icon name={icon} />
          {title}
          {page === "access" && <WaitingRequests />}
        </a>
      ))}
      <RecentDevices />
      <div class="rail-foot">
        <button type="button" class="rail-item" onClick={openPalette}>
          <Icon name="search" />
          Search
        </button>
        <Menu />
        <button
          type="button"
          class="rail-item rail-wide"
          onClick={nextTheme}
          data-testid="theme"
          aria-label={`Theme: ${theme.value}`}
        >
          <Icon name={theme.value} />
          <span>
            Theme<span class="theme-name">: {theme.value}</span>
          </span>
        </button>
        <button type="button" class="rail-item rail-wide" onClick={() => void leave()}>
          <Icon name="leave" />
          Sign out
        </button>
        <p class="rail-version label">Version {hub.info.value?.version ?? ""}</p>
      </div>
    </nav>
  );
}

/** Return whether an entry of the navigation is that of the shown page. A device has an entry of its own. */
function isCurrent(page: string): boolean {
  const shown = route.value;
  return shown.page === page || (shown.page !== "device" && parentPage(shown)?.page === page);
}

/** Menu of a phone: every page, the theme, and signing out. */
function Menu() {
  const dialog = useRef<HTMLDialogElement>(null);
  const shown = route.value;
  useEffect(() => dialog.current?.close(), [shown]);
  return (
    <>
      <button
        type="button"
        class="rail-item rail-more"
        aria-haspopup="dialog"
        data-testid="menu"
        onClick={() => dialog.current?.showModal()}
      >
        <Icon name="more" />
        More
        <WaitingRequests />
      </button>
      {/* biome-ignore lint/a11y/useKeyWithClickEvents: Escape closes it, and so does its last button */}
      <dialog
        class="menu"
        ref={dialog}
        aria-label="Menu"
        onClick={(event) => event.target === event.currentTarget && event.currentTarget.close()}
      >
        {shownPages().map(({ page, title, path, icon }) => (
          <a
            key={page}
            class="rail-item"
            href={withBase(path)}
            aria-current={isCurrent(page) ? "page" : undefined}
            onClick={() => dialog.current?.close()}
          >
            <Icon name={icon} />
            {title}
            {page === "access" && <WaitingRequests />}
          </a>
        ))}
        <button type="button" class="rail-item" onClick={nextTheme}>
          <Icon name={theme.value} />
          Theme: {theme.value}
        </button>
        <button type="button" class="rail-item" onClick={() => void leave()}>
          <Icon name="leave" />
          Sign out
        </button>
        <button type="button" class="rail-item" onClick={() => dialog.current?.close()}>
          <Icon name="close" />
          Close
        </button>
      </dialog>
    </>
  );
}

async function leave(): Promise<void> {
  try {
    await signOut();
  } finally {
    window.location.assign(withBase("/"));
  }
}

function RecentDevices() {
  const shown = route.value;
  void hub.fleet.version.value;
  const records = recentDevices.value.flatMap((device) => hub.fleet.records.get(device) ?? []);
  if (records.length === 0) return null;
  return (
    <>
      <p class="rail-title label">Recent</p>
      <div class="rail-recent">
        {records.map((record) => (
          <a
            key={record.device}
            class="rail-item"
            href={devicePath(record.device)}
            aria-current={shown.page === "device" && shown.device === record.device ? "page" : undefined}
            title={record.device}
          >
            <Shape condition={conditionOf(record)} />
            <span class="mono ellipsis">{record.device}</span>
          </a>
        ))}
      </div>
    </>
  );
}

/** The board that this tab streams, on every other page. */
function BoardIndicator() {
  const board = boardTab.board.value;
  if (board === null || route.value.page === "board") return null;
  void board.version.value;
  const isReading = boardTab.feed.value?.status.value.state === "reading";
  return (
    <a
      class="button plain board-chip"
      href={withBase("/board")}
      data-testid="board-chip"
      aria-label={`Board ${board.record.device}`}
    >
      <Shape condition={isReading ? "online" : "offline"} />
      <span class="word ellipsis">Board {board.record.device}</span>
    </a>
  );
}

function Header() {
  const shown = route.value;
  const parent = parentPage(shown);
  const title = pageTitle(shown);
  return (
    <header class="header row">
      <div class="crumbs row">
        {parent !== null && (
          <>
            <a class="back" href={withBase(parent.path)} aria-label={`Back to ${parent.title}`}>
              <Icon name="back" />
            </a>
            <a href={withBase(parent.path)}>{parent.title}</a>
            <span class="separator">/</span>
          </>
        )}
        <span class={shown.page === "device" ? "ellipsis mono" : "ellipsis"} title={title}>
          {title}
        </span>
      </div>
      {shown.page !== "try" && parent === null && (
        <a class="button plain header-try" href={withBase("/try")}>
          Try it
        </a>
      )}
      <BoardIndicator />
      {pageView.value !== null && <TimeRangePicker view={pageView.value} />}
      <ConnectionIndicator />
      <button type="button" class="button search-button" aria-keyshortcuts="Control+K" onClick={openPalette}>
        <Icon name="search" />
        <span class="word">Search</span>
        <span class="kbd" aria-hidden="true">
          Ctrl K
        </span>
      </button>
    </header>
  );
}
