package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"certbook/engine"
)

// Genesis stands for the hash before the first line: the SHA-256 of
// "certbook audit log 1\n".
const Genesis = "90f9a8d5d2d5d1224753d8966d1f77eca649dabc19e6115b060947fc3c35a762"

// MaxLine is the length in bytes that no line exceeds, newline included.
const MaxLine = 8 << 20

// MaxText is the length in bytes to which a single text is shortened.
const MaxText = 16 << 10

// Record is one line of a log.
type Record struct {
	Seq      int    // its number, from 1
	Prev     string // the hash of the line before
	Hash     string // its own
	Event    engine.Event
	Redacted int // values that were replaced because they looked like secrets
	Cut      int // values that were shortened or left out because of their length
}

// envelope is a line as encoding/json reads it.
type envelope struct {
	Seq      int    `json:"seq"`
	Prev     string `json:"prev"`
	Redacted int    `json:"redacted"`
	Cut      int    `json:"cut"`
	engine.Event
}

const (
	hashField = `,"hash":"`
	hashLen   = 2 * sha256.Size
	tailLen   = len(hashField) + hashLen + len(`"}`)
)

func sum(body []byte) string {
	h := sha256.Sum256(body)
	return hex.EncodeToString(h[:])
}

// head is how a line begins.
func head(seq int, prev string) []byte {
	return fmt.Appendf(nil, `{"seq":%d,"prev":"%s",`, seq, prev)
}

// encode returns the line of an event, newline included, and its hash.
func encode(seq int, prev string, e engine.Event) (line []byte, hash string, err error) {
	e, redacted, cut := scrub(e)
	line, err = body(seq, prev, e, redacted, cut)
	if err == nil && len(line)+tailLen+1 > MaxLine {
		e, n := withoutLists(e)
		line, err = body(seq, prev, e, redacted, cut+n)
	}
	if err != nil {
		return nil, "", fmt.Errorf("encode %s: %v", e.Kind, err)
	}
	hash = sum(line)
	line = append(line, hashField...)
	line = append(line, hash...)
	return append(line, '"', '}', '\n'), hash, nil
}

// body is a line up to its hash.
func body(seq int, prev string, e engine.Event, redacted, cut int) ([]byte, error) {
	var object bytes.Buffer
	enc := json.NewEncoder(&object)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, err
	}
	fields := bytes.TrimSuffix(bytes.TrimPrefix(object.Bytes(), []byte("{")), []byte("}\n"))
	line := append(head(seq, prev), fields...)
	if redacted > 0 {
		line = fmt.Appendf(line, `,"redacted":%d`, redacted)
	}
	if cut > 0 {
		line = fmt.Appendf(line, `,"cut":%d`, cut)
	}
	return line, nil
}

// withoutLists leaves out what can grow with the number of hosts, and counts
// the entries.
func withoutLists(e engine.Event) (engine.Event, int) {
	n := len(e.Changes) + len(e.Done) + len(e.Warnings) + len(e.Hosts) + len(e.Left)
	e.Changes, e.Done, e.Warnings, e.Hosts, e.Left = nil, nil, nil, nil, nil
	if e.Origin != nil {
		o := *e.Origin
		n += len(o.Documents)
		o.Documents = nil
		e.Origin = &o
	}
	return e, n
}

// decode reads a line without its newline, which must be number seq and follow
// prev. An error says what is wrong with it, for a person.
func decode(line []byte, seq int, prev string) (Record, error) {
	n := len(line) - tailLen
	if n < 0 || !bytes.HasPrefix(line[n:], []byte(hashField)) || !bytes.HasSuffix(line, []byte(`"}`)) {
		return Record{}, fmt.Errorf("does not end with its hash: it was changed, or is no line of an audit log")
	}
	body, hash := line[:n], string(line[n+len(hashField):len(line)-2])
	if sum(body) != hash {
		return Record{}, fmt.Errorf("its hash does not fit its content: the line was changed")
	}
	var e envelope
	if err := json.Unmarshal(line, &e); err != nil {
		return Record{}, fmt.Errorf("is no event: %v", err)
	}
	if !bytes.HasPrefix(body, head(seq, prev)) {
		return Record{}, misplaced(e, seq)
	}
	return Record{Seq: seq, Prev: prev, Hash: hash, Event: e.Event, Redacted: e.Redacted, Cut: e.Cut}, nil
}

// misplaced says why a line that is sound in itself is not the one expected.
func misplaced(e envelope, seq int) error {
	switch {
	case e.Seq > seq:
		return fmt.Errorf("is event %d: %d lines are missing before it, or it was moved", e.Seq, e.Seq-seq)
	case e.Seq < seq:
		return fmt.Errorf("is event %d: it was repeated, inserted or moved", e.Seq)
	case seq == 1:
		return fmt.Errorf("is not the beginning of a log: its prev is not the fixed first value")
	}
	return fmt.Errorf("its prev is not the hash of line %d: one of the two was exchanged", seq-1)
}
