/** Show hidden characters in every text that the page renders, so that no view can forget it. */

import { options, type VNode } from "preact";
import { visible } from "../data/visible_text";

/** Attributes with texts for people. */
const ATTRIBUTES = ["title", "aria-label", "placeholder", "alt"];

/** Text nodes and elements, as Preact's hook receives them; its types describe elements only. */
interface RenderedNode {
  type: unknown;
  props: unknown;
}

/** Escape hidden characters in text nodes, and in the attributes of elements, before they are rendered. */
export function showHiddenCharacters(): void {
  const before = options.vnode;
  options.vnode = (vnode: VNode) => {
    const node: RenderedNode = vnode;
    if (node.type === null && typeof node.props === "string") node.props = visible(node.props);
    else if (typeof node.type === "string") showInAttributes(node.props as Record<string, unknown>);
    before?.(vnode);
  };
}

function showInAttributes(props: Record<string, unknown>): void {
  for (const name of ATTRIBUTES) {
    const text = props[name];
    if (typeof text === "string") props[name] = visible(text);
  }
}
