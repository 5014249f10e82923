"""Every limit and timeout in one place, with its unit in its name. A document beyond a limit is refused, never cut."""

from __future__ import annotations

from typing import Final

# Documents
MANIFEST_BYTES: Final = 1 << 20
LOCK_BYTES: Final = 64 << 20
CARD_BYTES: Final = 256 << 10
OCI_MANIFEST_BYTES: Final = 4 << 20
INDEX_BYTES: Final = 64 << 20
CONFIG_BYTES: Final = 1 << 20
SAFETENSORS_HEADER_BYTES: Final = 16 << 20
SAFETENSORS_TENSORS: Final = 50_000
TENSOR_NAME_CHARACTERS: Final = 1_000
TENSOR_DIMENSIONS: Final = 16
PATTERN_CHARACTERS: Final = 1_000  # of a regular expression in a file
TENSOR_WIDTH: Final = 1 << 24  # of one dimension, where a config names it
DOCUMENT_DEPTH: Final = 64
DOCUMENT_FAULTS: Final = 100  # an error lists at most so many
INTEGER_MAX: Final = (1 << 53) - 1  # beyond it JSON readers disagree
DOCUMENT_PARTS: Final = 600_000  # a JSON document's values, counted by its commas and opening brackets
STRING_CHARACTERS: Final = 100_000
LIST_ENTRIES: Final = 10_000  # where no other limit is named

# Names and packages
NAME_CHARACTERS: Final = 128
NAME_PARTS: Final = 4
VERSION_CHARACTERS: Final = 64
CONSTRAINT_CHARACTERS: Final = 1_000
PATH_CHARACTERS: Final = 255
RELEASE_FILES: Final = 1_000
INDEX_RELEASES: Final = 50_000
ATTACHMENTS: Final = 10_000  # of one release, on a page
METRICS: Final = 1_000
PARENTS: Final = 100
REGISTRIES: Final = 100
MIRRORS: Final = 20  # of one registry
MEMBERS: Final = 1_000  # of a workspace
COMPOSITION_DEPTH: Final = 16
COMPOSITION_LEAVES: Final = 1_000

# Base identity
SKETCH_SAMPLES: Final = 256

# Resolver
RESOLVER_DECISIONS: Final = 10_000
EXPLANATION_DECISIONS: Final = 500  # of a small problem's failure; that of a large one may cost what finding it did
PREFETCH_THREADS: Final = 16

# Network
CONNECT_TIMEOUT_SECONDS: Final = 10.0
READ_TIMEOUT_SECONDS: Final = 30.0
RETRIES: Final = 3
RETRY_PAUSE_SECONDS: Final = 0.2
REDIRECTS: Final = 5
CONNECTIONS: Final = 32  # at most, of one process, where ADPM_CONNECTIONS does not say otherwise
CONNECTIONS_MOST: Final = 256
CONNECTIONS_FIRST: Final = 3  # for large files; for small ones one; more while the processor has nothing to do
RETRY_PAUSE_MAX_SECONDS: Final = 20.0  # a server that asks for a longer pause is told of as an error
STALL_SECONDS: Final = 30.0  # in so long a time at least
STALL_BYTES: Final = 1024  # so many bytes must arrive, or the connection counts as dead
PROGRESS_BYTES: Final = 64 << 10  # after so many, earlier cuts of a download no longer count against it
CHUNK_BYTES: Final = 1 << 20
RECEIVE_BYTES: Final = 512 << 10  # from a connection at a time; memory of this size is used again, not given back
SEND_BYTES: Final = 256 << 10  # of a file, into a connection at a time
BLOB_BYTES: Final = 64 << 30
UPLOAD_CHUNK_BYTES: Final = 16 << 20  # a larger blob is sent in chunks, of which one is in memory
TOKEN_BYTES: Final = 1 << 20  # what a token service answers
HELPER_SECONDS: Final = 60.0  # a credential helper may ask its user something
LIST_PAGES: Final = 10_000  # of a list of tags or repositories
GIT_SECONDS: Final = 900.0  # one git command

# Registries
MIRROR_SECONDS: Final = 20.0  # after so long, a mirror that has sent
MIRROR_BYTES_PER_SECOND: Final = 16 << 10  # less than this is not waited for any longer
RECORD_BYTES: Final = 64 << 10
YANK_REASON_CHARACTERS: Final = 1_000
CHANNEL_READS: Final = 4  # of a channel that can't be read: a server may show it while it is written
INDEX_TRIES: Final = 200  # lost races of one publisher for one package's index
RACE_PAUSE_SECONDS: Final = 0.1  # at most, before one who lost a race for an index begins again; doubled each time
RACE_PAUSE_MAX_SECONDS: Final = 3.0
CLAIM_SECONDS: Final = 600  # a claim of a version that was not committed for so long may be taken over
SFTP_CHANNELS: Final = 8  # of one connection; OpenSSH allows ten
SFTP_REQUESTS: Final = 64  # of one file at once
PART_BYTES: Final = 16 << 20  # of an upload to an object store; a smaller file is sent at once

# Runtime
UNPICKLE_SECONDS: Final = 120.0
PICKLE_BYTES: Final = 4 << 30  # of one file; it is held in memory
UNPICKLE_BYTES: Final = 1 << 30  # of memory, beyond four times the file

# Store
BATCH_FILES: Final = 256  # a batch is synced when so many files wait for it, each of which may be open
BATCH_BYTES: Final = 2 << 30  # or so many bytes in them
BATCH_HELD_BYTES: Final = 32 << 20  # or so many bytes of small ones, which wait in memory
SYNC_THREADS: Final = 8
SYNC_SECONDS: Final = 0.0005  # a sync that takes longer waited for a disk
SMALL_BYTES: Final = 256 << 10  # an object of known size up to this waits for its batch in memory
PIECE_BYTES: Final = 16 << 20  # of a larger blob are fetched at a time, by several connections
JOURNAL_BYTES: Final = 4 << 20  # of such notes; beyond it no more are taken
MARK_BYTES: Final = 4 << 20  # after so many it is noted how much of a blob has arrived
QUARANTINE_SUFFIX: Final = ".corrupt"
TEMPORARY_AGE_SECONDS: Final = 24 * 3600  # a temporary file older than this belongs to no living process
