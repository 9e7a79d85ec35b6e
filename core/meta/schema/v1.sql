-- Desired objects as the cloud sent them; cluster-scoped ones have namespace ''.
CREATE TABLE objects (
    kind      TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name      TEXT NOT NULL,
    version   TEXT NOT NULL,
    body      BLOB NOT NULL,
    PRIMARY KEY (kind, namespace, name)
) WITHOUT ROWID;

-- Device twins, opaque to the store; property '' holds the device itself.
CREATE TABLE twins (
    namespace TEXT NOT NULL,
    device    TEXT NOT NULL,
    property  TEXT NOT NULL,
    body      BLOB NOT NULL,
    PRIMARY KEY (namespace, device, property)
) WITHOUT ROWID;

-- What waits for the cloud; seq is the order.
CREATE TABLE outbox (
    seq     INTEGER PRIMARY KEY,
    class   TEXT NOT NULL,
    subject TEXT NOT NULL,
    item    TEXT NOT NULL,
    body    BLOB NOT NULL
);
