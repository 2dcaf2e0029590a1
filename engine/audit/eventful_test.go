package audit

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"certbook/engine"
)

// sound is a log as a run wrote it, with what Verify knows before each line.
type sound struct {
	log    []byte
	lines  [][]byte      // with their newlines
	starts []int         // offset of each line, then the length of the log
	before []Summary     // of the lines before each line
	kinds  []engine.Kind // of the line before each line
}

// eventful is the log of a run that brought every kind of event; see
// TestEventfulLog of cmd/certbook.
func eventful(t *testing.T) *sound {
	t.Helper()
	log, err := os.ReadFile("testdata/eventful.jsonl")
	require.NoError(t, err)
	w := &sound{log: log, starts: []int{0}, before: []Summary{{Head: Genesis}}, kinds: []engine.Kind{""}}
	seen := map[engine.Kind]bool{}
	for line := range bytes.Lines(log) {
		s := w.before[len(w.lines)]
		rec, err := s.next(bytes.TrimSuffix(line, []byte("\n")), nil)
		require.NoError(t, err)
		s.add(rec)
		seen[rec.Event.Kind] = true
		w.lines = append(w.lines, line)
		w.starts = append(w.starts, w.starts[len(w.starts)-1]+len(line))
		w.before, w.kinds = append(w.before, s), append(w.kinds, rec.Event.Kind)
	}
	whole, err := Verify(bytes.NewReader(log))
	require.NoError(t, err)
	require.Equal(t, w.before[len(w.lines)], whole)
	require.Len(t, seen, 19, "all kinds but those of a plan, which has no log: %v", seen)
	return w
}

// from verifies other instead of the log from line i on. As nothing before that
// line differs, this is what Verify comes to.
func (w *sound) from(i int, other []byte) (Summary, error) {
	return w.before[i].rest(bytes.NewReader(other), w.kinds[i], func(Record) error { return nil })
}

// line returns the line that holds the byte at an offset.
func (w *sound) line(offset int) int {
	i, exact := slices.BinarySearch(w.starts, offset)
	if !exact {
		i--
	}
	return i
}

// noticed says whether an error says in which line a log was changed.
func noticed(s Summary, err error, line int) bool {
	bad, ok := err.(*LineError)
	return ok && bad.Line == line+1 && s.Lines == line && !s.Complete
}

// TestTampering changes a real log in every small way and counts. Cutting
// nothing off is the one truncation that is none.
func TestTampering(t *testing.T) {
	w := eventful(t)
	made, seen := 0, 0
	count := func(ok bool, what string, at ...int) {
		made++
		if ok {
			seen++
		} else {
			t.Errorf("not noticed: %s %v", what, at)
		}
	}
	for _, part := range []struct {
		name   string
		tamper func(count func(ok bool, what string, at ...int))
	}{
		{"every byte flipped with each of 5 masks", w.flip},
		{"every line dropped", w.drop},
		{"every pair of lines swapped", w.swap},
		{"cut off at every offset", w.truncate},
	} {
		before := made
		part.tamper(count)
		t.Logf("%s: %d changes", part.name, made-before)
	}
	n := len(w.lines)
	require.Equal(t, 5*len(w.log)+n+n*(n-1)/2+len(w.log), made)
	page, err := os.ReadFile("../../docs/audit.md")
	require.NoError(t, err)
	require.Contains(t, string(page), fmt.Sprintf("are %d changes, of which %d\nare noticed", made, seen))
	t.Logf("tampering: %d changes made, %d noticed (log of a run: %d bytes, %d lines)", made, seen, len(w.log), n)
}

func (w *sound) flip(count func(bool, string, ...int)) {
	for i := range w.log {
		k := w.line(i)
		for _, mask := range []byte{0x01, 0x08, 0x20, 0x80, 0xff} {
			other := bytes.Clone(w.log[w.starts[k]:])
			other[i-w.starts[k]] ^= mask
			s, err := w.from(k, other)
			count(noticed(s, err, k), "byte flipped", i, int(mask))
		}
	}
}

// drop drops each line. Without the last one a log is cut off.
func (w *sound) drop(count func(bool, string, ...int)) {
	last := len(w.lines) - 1
	for k := range w.lines {
		s, err := Verify(bytes.NewReader(join(slices.Delete(slices.Clone(w.lines), k, k+1))))
		if cut, ok := err.(*CutOffError); ok && k == last {
			count(cut.Lines == last && !cut.Half, "last line dropped", k)
			continue
		}
		count(noticed(s, err, k), "line dropped", k)
	}
}

func (w *sound) swap(count func(bool, string, ...int)) {
	for a := range w.lines {
		for b := a + 1; b < len(w.lines); b++ {
			other := slices.Clone(w.lines)
			other[a], other[b] = other[b], other[a]
			s, err := Verify(bytes.NewReader(join(other)))
			count(noticed(s, err, a), "lines swapped", a, b)
		}
	}
}

func (w *sound) truncate(count func(bool, string, ...int)) {
	for n := range w.log {
		k := w.line(n)
		s, err := w.from(k, w.log[w.starts[k]:n])
		cut, ok := err.(*CutOffError)
		count(ok && cut.Lines == k && cut.Half == (n > w.starts[k]) && s.Lines == k && !s.Complete, "cut off", n)
	}
}
