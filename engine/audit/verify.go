package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"certbook/engine"
)

// Summary is what a log says of its run, up to where it could be verified.
type Summary struct {
	Run      string
	Playbook string
	Lines    int       // verified
	Started  time.Time // of run-started
	Finished time.Time // of run-finished; zero without
	Outcome  engine.Outcome
	Complete bool   // run-finished is there and nothing follows
	Redacted int    // values that were replaced when the log was written
	Head     string // hash of the last verified line; it stands for all of them
}

// LineError says that a log is not as it was written, and where.
type LineError struct {
	Line   int // from 1
	Reason string
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Reason) }

// CutOffError says that a log is sound as far as it goes, but ends before
// run-finished: the run is going on, was killed, or the log was cut.
type CutOffError struct {
	Lines int         // complete lines
	Half  bool        // bytes of a further line follow
	Last  engine.Kind // event of the last complete line
}

func (e *CutOffError) Error() string {
	switch {
	case e.Half:
		return fmt.Sprintf("line %d: cut off or still running: the log ends half way through this line", e.Lines+1)
	case e.Lines == 0:
		return "line 1: cut off or still running: the log is empty"
	}
	return fmt.Sprintf("line %d: cut off or still running: the log ends with %q, not with run-finished", e.Lines, e.Last)
}

// Verify reads a log to its end. A log that was tampered with is a *LineError,
// one that ends too early a *CutOffError; other errors come from r. The
// Summary is that of the lines before the error.
func Verify(r io.Reader) (Summary, error) {
	return verify(r, func(Record) error { return nil })
}

// VerifyFile is Verify of the file at path.
func VerifyFile(path string) (s Summary, err error) {
	err = open(path, func(r io.Reader) error {
		s, err = Verify(r)
		return err
	})
	return s, err
}

// Read calls each for the lines of the file at path, in order, as far as they
// are verified. The error is the first of each, else that of Verify.
func Read(path string, each func(Record) error) error {
	return open(path, func(r io.Reader) error {
		_, err := verify(r, each)
		return err
	})
}

func open(path string, read func(io.Reader) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	defer f.Close()
	if err := read(f); err != nil {
		return fmt.Errorf("audit log %q: %w", path, err)
	}
	return nil
}

func verify(r io.Reader, each func(Record) error) (Summary, error) {
	return Summary{Head: Genesis}.rest(r, "", each)
}

// rest verifies what follows the lines that s sums up, of which the last one has
// an event of kind last.
func (s Summary) rest(r io.Reader, last engine.Kind, each func(Record) error) (Summary, error) {
	lines := bufio.NewReaderSize(r, 16<<10)
	for {
		line, err := readLine(lines)
		switch {
		case err == io.EOF && len(line) == 0 && s.Complete:
			return s, nil
		case err == io.EOF && len(line) == 0:
			return s, &CutOffError{Lines: s.Lines, Last: last}
		case err == io.EOF && !s.Complete && half(line, s.Lines+1, s.Head):
			return s, &CutOffError{Lines: s.Lines, Half: true, Last: last}
		case err != nil && err != io.EOF && !errors.Is(err, errTooLong):
			return s, fmt.Errorf("line %d: %w", s.Lines+1, err)
		}
		rec, bad := s.next(line, err)
		if bad != nil {
			s.Complete = false
			return s, &LineError{Line: s.Lines + 1, Reason: bad.Error()}
		}
		s.add(rec)
		last = rec.Event.Kind
		if err := each(rec); err != nil {
			return s, err
		}
	}
}

var errTooLong = errors.New("too long")

// readLine returns a line without its newline. What follows the last newline
// comes with io.EOF. The buffer of a line never grows beyond MaxLine.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > MaxLine {
			return nil, errTooLong
		}
		line = append(line, part...)
		if err == bufio.ErrBufferFull {
			continue
		}
		return bytes.TrimSuffix(line, []byte("\n")), err
	}
}

// half says whether the bytes after the last newline can be the beginning of
// line seq.
func half(part []byte, seq int, prev string) bool {
	start := head(seq, prev)
	n := min(len(start), len(part))
	if !bytes.Equal(start[:n], part[:n]) {
		return false
	}
	if i := bytes.LastIndex(part, []byte(hashField)); i >= 0 && len(part)-i > tailLen {
		hash := part[i+len(hashField):][:hashLen]
		return sum(part[:i]) != string(hash) // else something follows a complete line where its newline was
	}
	return true
}

// next verifies the line that follows what was summed up so far.
func (s *Summary) next(line []byte, err error) (Record, error) {
	switch {
	case s.Complete:
		return Record{}, errors.New("follows run-finished, which is the last event")
	case err == io.EOF:
		return Record{}, errors.New("is no part of the log, and has no newline at its end")
	case err != nil:
		return Record{}, fmt.Errorf("is longer than %d bytes", MaxLine)
	}
	rec, err := decode(line, s.Lines+1, s.Head)
	if err != nil {
		return rec, err
	}
	run := s.Run
	if s.Lines == 0 {
		run = rec.Event.Run
	}
	return rec, follows(rec.Seq, run, s.Complete, rec.Event)
}

// add sums up one verified line.
func (s *Summary) add(rec Record) {
	e := rec.Event
	s.Lines, s.Head = rec.Seq, rec.Hash
	s.Redacted += rec.Redacted
	switch e.Kind {
	case engine.RunStarted:
		s.Run, s.Started = e.Run, e.Time
		if e.Origin != nil {
			s.Playbook = e.Origin.Playbook
		}
	case engine.RunFinished:
		s.Finished, s.Outcome, s.Complete = e.Time, e.Outcome, true
	}
}
