package audit

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certbook/engine"
)

// real is a log as a run writes it, and its lines with their newlines.
func realLog(t *testing.T) ([]byte, [][]byte) {
	t.Helper()
	log, err := os.ReadFile(write(t, sample()...))
	require.NoError(t, err)
	_, err = Verify(bytes.NewReader(log))
	require.NoError(t, err)
	return log, bytes.SplitAfter(log[:len(log):len(log)], []byte("\n"))[:9]
}

// tampered requires that a log is found to be changed at a line.
func tampered(t *testing.T, log []byte, line int, what string, args ...any) {
	t.Helper()
	s, err := Verify(bytes.NewReader(log))
	bad, ok := err.(*LineError)
	if !ok {
		t.Fatalf("%s: got %v", fmt.Sprintf(what, args...), err)
	}
	if bad.Line != line || s.Lines != line-1 || s.Complete {
		t.Fatalf("%s: found in line %d after %d sound lines, want line %d", fmt.Sprintf(what, args...), bad.Line, s.Lines, line)
	}
}

func TestEveryChangedByteIsFound(t *testing.T) {
	log, _ := realLog(t)
	n, line := 0, 1
	for i, c := range log {
		for _, mask := range []byte{0x01, 0x20, 0x80} {
			bad := bytes.Clone(log)
			bad[i] ^= mask
			tampered(t, bad, line, "byte %d ^ %#x", i, mask)
			n++
		}
		if c == '\n' {
			line++
		}
	}
	t.Logf("%d changes of %d bytes, all found in their line", n, len(log))
}

func TestEveryInsertedAndRemovedByteIsFound(t *testing.T) {
	log, _ := realLog(t)
	n, line := 0, 1
	for i, c := range log {
		if i == len(log)-1 {
			break // the last newline: see TestEveryTruncationIsFound
		}
		tampered(t, slices.Delete(bytes.Clone(log), i, i+1), line, "without byte %d", i)
		tampered(t, slices.Insert(bytes.Clone(log), i, ' '), line, "space before byte %d", i)
		n += 3
		if c == '\n' {
			line++ // an empty line is inserted
		}
		tampered(t, slices.Insert(bytes.Clone(log), i, '\n'), line, "newline before byte %d", i)
	}
	t.Logf("%d insertions and removals, all found in their line", n)
}

func TestEveryRemovedRepeatedAndMovedLineIsFound(t *testing.T) {
	_, lines := realLog(t)
	last := len(lines) - 1
	dropped, repeated, inserted, swapped := 0, 0, 0, 0
	for i := range lines {
		if i < last { // dropping the last line cuts the log off
			tampered(t, join(slices.Delete(slices.Clone(lines), i, i+1)), i+1, "without line %d", i+1)
			dropped++
		}
		for at := range len(lines) + 1 {
			if at != i && at != i+1 {
				tampered(t, join(slices.Insert(slices.Clone(lines), at, lines[i])), at+1, "line %d again before line %d", i+1, at+1)
				inserted++
			}
		}
		tampered(t, join(slices.Insert(slices.Clone(lines), i+1, lines[i])), i+2, "line %d twice", i+1)
		repeated++
		for k := i + 1; k <= last; k++ {
			other := slices.Clone(lines)
			other[i], other[k] = other[k], other[i]
			tampered(t, join(other), i+1, "lines %d and %d exchanged", i+1, k+1)
			swapped++
		}
	}
	t.Logf("%d lines dropped, %d repeated, %d inserted elsewhere, %d pairs exchanged: all found", dropped, repeated, inserted, swapped)
}

func TestEveryTruncationIsFound(t *testing.T) {
	log, lines := realLog(t)
	ends := map[int]int{0: 0} // offset to number of complete lines
	at := 0
	for i, l := range lines {
		at += len(l)
		ends[at] = i + 1
	}
	complete := 0
	for n := range len(log) {
		whole, boundary := ends[n]
		if boundary {
			complete = whole
		}
		s, err := Verify(bytes.NewReader(log[:n]))
		cut, ok := err.(*CutOffError)
		require.True(t, ok, "%d bytes: %v", n, err)
		require.Equal(t, complete, cut.Lines, "%d bytes", n)
		require.Equal(t, !boundary, cut.Half, "%d bytes", n)
		require.Equal(t, complete, s.Lines)
		require.False(t, s.Complete)
	}
	t.Logf("%d truncations, all found: %d at the end of a line, the others half way", len(log), len(ends)-1)
}

func TestTrailingBytesAreFound(t *testing.T) {
	log, lines := realLog(t)
	for _, more := range []string{"\n", " ", "x", "{", "\x00", string(lines[8]), `{"seq":10,"prev":"` + strings.Repeat("0", 64) + `"`} {
		tampered(t, slices.Concat(log, []byte(more)), 10, "with %q behind", more)
		_, err := Verify(bytes.NewReader(slices.Concat(log, []byte(more))))
		require.EqualError(t, err, "line 10: follows run-finished, which is the last event")
	}
	open := join(lines[:8])
	for _, more := range []string{"x", "{}", "\x00", `{"seq":8,`, `{"seq":9,"prev":"0`} {
		tampered(t, slices.Concat(open, []byte(more)), 9, "half a line that is none: %q", more)
	}
}

// TestForgedLine changes a line and computes its hash anew: the next line tells.
func TestForgedLine(t *testing.T) {
	_, lines := realLog(t)
	prev := Genesis
	for i, e := range sample() {
		forged, hash, err := encode(i+1, prev, engine.Event{Time: e.Time, Kind: e.Kind, Run: e.Run, Message: "nothing to see"})
		require.NoError(t, err)
		other := slices.Clone(lines)
		other[i] = forged
		if i < 8 {
			tampered(t, join(other), i+2, "line %d forged", i+1)
		} else {
			s, err := Verify(bytes.NewReader(join(other)))
			require.NoError(t, err, "a chain cannot show that its end was forged")
			require.Equal(t, hash, s.Head, "its head does")
		}
		rec, err := decode(bytes.TrimSpace(lines[i]), i+1, prev)
		require.NoError(t, err)
		prev = rec.Hash
	}
}

func TestWellFormedNonsense(t *testing.T) {
	line := func(seq int, prev, fields string) ([]byte, string) {
		body := append(head(seq, prev), fields...)
		return fmt.Appendf(nil, "%s,\"hash\":\"%s\"}\n", body, sum(body)), sum(body)
	}
	first, hash := line(1, Genesis, `"event":"run-started","run":"r"`)
	again, _ := line(2, hash, `"event":"run-started","run":"r"`)
	other, _ := line(2, hash, `"event":"step-ok","run":"q"`)
	odd, _ := line(2, hash, `"event":7`)
	early, _ := line(1, Genesis, `"event":"step-ok","run":"r"`)
	none, _ := line(1, strings.Repeat("0", 64), `"event":"run-started","run":"r"`)
	tampered(t, slices.Concat(first, again), 2, "two beginnings")
	tampered(t, slices.Concat(first, other), 2, "two runs")
	tampered(t, slices.Concat(first, odd), 2, "no event")
	tampered(t, early, 1, "no beginning")
	tampered(t, none, 1, "another beginning")
	tampered(t, []byte("\n"), 1, "an empty line")
}

func TestLongLine(t *testing.T) {
	first, _, err := encode(1, Genesis, sample()[0])
	require.NoError(t, err)
	tampered(t, append(first, bytes.Repeat([]byte("x"), MaxLine+1)...), 2, "a line without end")
	_, err = Verify(&endless{})
	require.EqualError(t, err, "line 1: is longer than 8388608 bytes")
}

// endless is a line that does not end.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	if e.read > 2*MaxLine {
		return 0, os.ErrDeadlineExceeded
	}
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func FuzzVerify(f *testing.F) {
	log, err := os.ReadFile("testdata/run.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(log)
	f.Add(log[:len(log)/2])
	f.Add([]byte("\n\n"))
	f.Add([]byte(`{"seq":1,"prev":"` + Genesis + `","hash":""}`))
	f.Add(bytes.Repeat([]byte(`[{"a":`), 4000))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Verify(bytes.NewReader(data))
		switch err.(type) {
		case nil:
			if !s.Complete || s.Lines != bytes.Count(data, []byte("\n")) || !bytes.HasSuffix(data, []byte("\n")) {
				t.Fatalf("verified, but %+v", s)
			}
		case *LineError, *CutOffError:
			if s.Complete || err.Error() == "" {
				t.Fatalf("%v, but %+v", err, s)
			}
		default:
			t.Fatalf("reading bytes failed: %v", err)
		}
	})
}

func join(lines [][]byte) []byte { return bytes.Join(lines, nil) }
