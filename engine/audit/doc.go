// Package audit keeps the record of a run: a file of JSON Lines, one event a
// line, in which each line is chained to the one before by hashes.
//
// # Format
//
// A line is one JSON object on one line, in this order of fields:
//
//	{"seq":N,"prev":"P",EVENT,"hash":"H"}
//
//	N      the line's number, from 1
//	P      the hash H of the line before; on the first line Genesis
//	EVENT  the fields of engine.Event as encoding/json writes them, without
//	       HTML escapes; then, if not 0, "redacted" and "cut": how many values
//	       were replaced and how many were shortened or left out (see below)
//	H      SHA-256, 64 lower-case hexadecimal digits, over the bytes of this
//	       very line from the opening brace up to and without ,"hash":"H"}
//
// and ends with one newline byte. The bytes of the line are the canonical
// form: nothing is parsed and written again to check a hash. As H covers P,
// and P is the H before, the last hash stands for the whole log. Without
// Certbook a line is checked by
//
//	sed -n 17p FILE | sed 's/,"hash":"[0-9a-f]*"}$//' | tr -d '\n' | sha256sum
//
// The first event is run-started, the last one run-finished, all belong to one
// run. A line is at most MaxLine bytes long.
//
// # What is found
//
// Verify finds a line that was changed, removed, inserted, repeated or moved,
// and bytes after run-finished, each as a *LineError with its place. A log that
// ends before run-finished, at the end of a line or half way through one, is a
// *CutOffError: the run is going on, or it was killed, or somebody has cut
// the log; the file alone cannot tell these apart.
//
// # What is not found
//
// A chain without a secret proves that a log is whole, not who wrote it. Whoever
// can write the file can compute every hash anew: a log rewritten from the
// changed line to its end, or replaced by another one, verifies. To notice
// that, compare its last hash (Summary.Head) with one that was kept
// elsewhere: in the report, in a ticket, on another machine; or sign the log.
//
// # Checkpoints
//
// A signed log (Log.SignWith) writes a Checkpoint beside itself after every
// event whose kind is Checkpointed: a small document with the number of lines
// and the last hash, and a detached signature of it in OpenSSH's SSHSIG format,
// which stock ssh-keygen -Y verify understands. VerifyCheckpoints wants all of
// them and holds the log against each: it finds a log that was written anew as
// a whole, one that lost its checkpoints, and one cut before the last of them.
// VerifyCopy does so for one that was kept elsewhere. Who has the key can sign
// another log; what follows the last checkpoint of a killed run is only chained.
//
// # What reaches the disk
//
// A line is one write. Events whose Kind is Durable are synced before Write
// returns; the others are synced with the next of these. What cannot be
// written is an error from then on: a run must not do what it cannot record.
//
// # Secrets
//
// Events hold none; this package is the last line of defence. A value that
// looks like a private key, a token or a password is replaced by REDACTED
// and counted in "redacted". The event is recorded, not refused: refusing it
// would stop a run half way, with a host in pieces, for the sake of a log
// line that is harmless without that value. For the same reason a text above
// MaxText bytes is shortened, and the lists of an event above MaxLine are left
// out, both counted in "cut".
package audit
