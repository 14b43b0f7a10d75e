"""What to do about batches in quarantine, by the code of their reason."""

from __future__ import annotations

from hub.model.store import FIELD_CONFLICT
from wire.errors import Code

_ADVICE: dict[str, str] = {
    Code.UNKNOWN_METRIC: (
        "The device sent a metric that it had not declared. Have its agent declare it with name, unit and type, then "
        "retry."
    ),
    Code.TYPE_CONFLICT: (
        "The hub knows the metric with another type, as the reason says. Give the metric its old type or another name "
        "in the device's program. A retry takes what fits."
    ),
    FIELD_CONFLICT: (
        "The store has values of another type in the field of this metric, of another device or of another program. "
        "Let the devices have measurements of their own (store.measurement), or remove the old values from the store, "
        "then retry."
    ),
    Code.WRONG_TYPE: (
        "A value is not of the type that its metric was declared with. Correct the device's program. A retry helps "
        "where the metric was wrong in the hub; delete the batch otherwise."
    ),
    Code.OUT_OF_RANGE: (
        "A number, a time or a text is outside what can be stored. Check the device's clock and its sensor's limits. "
        "The batch itself cannot be accepted: delete it when it is of no more use."
    ),
    Code.NOT_FINITE: (
        "NaN and infinity are no readings: have the device's program leave the value out where there is none. "
        "The batch itself cannot be accepted: delete it when it is of no more use."
    ),
    Code.LENGTH_MISMATCH: (
        "The columns of the batch are not equally long, so it is not known which value has which time. Correct the "
        "device's program and delete the batch."
    ),
    Code.EMPTY: "The batch has no reading. Correct the device's program; nothing is lost by deleting it.",
    Code.TOO_MANY: "The batch has more rows than the protocol allows. Have the device send smaller ones; delete it.",
    Code.BAD_MESSAGE: (
        "The message is not what the device protocol describes. Correct or update the device's program. After an "
        "update of the hub a retry may help."
    ),
}

_OTHERS = (
    "The store refused these readings for the reason that it gives. Put right what it names, in the store or in the "
    "hub's settings, then retry."
)


def advice(code: str) -> str:
    """What a person can do about it, in a sentence or two. Codes that are not the device protocol's are a store's."""
    return _ADVICE.get(code, _OTHERS)
