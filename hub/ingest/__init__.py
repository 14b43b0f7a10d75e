"""From a frame to an acknowledgement: acceptance (pure), the devices' state, the conversation, and the commit loop."""
