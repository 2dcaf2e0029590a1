package schema

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/go-multierror"
)

// Diagnostic is one mistake in a document.
type Diagnostic struct {
	Pos     Pos
	Message string // lower case, names the thing and quotes the input
	Hint    string // what to do next; "" when the message says it

	aside bool // the rest of the document is understood all the same
}

// Error returns file:line:column: message, the offending line and a caret; of
// a secret document not the line.
func (d *Diagnostic) Error() string {
	var b strings.Builder
	if d.Pos.Source != nil {
		b.WriteString(d.Pos.String() + ": ")
	}
	b.WriteString(d.Message)
	if d.Hint != "" {
		b.WriteString("; " + d.Hint)
	}
	if d.Pos.Source == nil || d.Pos.Source.Secret {
		return b.String()
	}
	if line := []rune(d.Pos.Source.Line(d.Pos.Line)); strings.TrimSpace(string(line)) != "" {
		line, col := excerpt(line, min(max(d.Pos.Column-1, 0), len(line)))
		number := strconv.Itoa(d.Pos.Line)
		fmt.Fprintf(&b, "\n  %s | %s\n  %s | %s^", number, printable(string(line)),
			strings.Repeat(" ", len(number)), strings.Repeat(" ", col))
	}
	return b.String()
}

// excerpt cuts a long line to the part around column col.
func excerpt(line []rune, col int) ([]rune, int) {
	const width = 120
	if len(line) <= width {
		return line, col
	}
	from := max(0, min(col-width/2, len(line)-width))
	return line[from : from+width], min(col-from, width)
}

// printable replaces what a terminal would act on.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\ufeff' {
			return '?'
		}
		return r
	}, s)
}

// Diagnostics collects mistakes. The zero value is ready to use.
type Diagnostics struct {
	list []*Diagnostic
}

// Add records a mistake at p.
func (d *Diagnostics) Add(p Pos, format string, args ...any) *Diagnostic {
	m := &Diagnostic{Pos: p, Message: clip(fmt.Sprintf(format, args...))}
	d.list = append(d.list, m)
	return m
}

// Empty reports whether nothing was recorded.
func (d *Diagnostics) Empty() bool { return len(d.list) == 0 }

// Append adds the mistakes of another collection.
func (d *Diagnostics) Append(o *Diagnostics) { d.list = append(d.list, o.list...) }

// aside reports whether all that was recorded leaves the rest of the document
// understood.
func (d *Diagnostics) aside() bool {
	return !slices.ContainsFunc(d.list, func(m *Diagnostic) bool { return !m.aside })
}

// Each calls f for every mistake, which f may change.
func (d *Diagnostics) Each(f func(*Diagnostic)) {
	for _, m := range d.list {
		f(m)
	}
}

// Len returns the number of mistakes recorded.
func (d *Diagnostics) Len() int { return len(d.list) }

// maxReported is the number of mistakes that Err returns one by one.
const maxReported = 500

// Err returns all mistakes as one *multierror.Error, in the order of the
// documents' lines and each once, or nil. Beyond 500 it only says how many
// more there are.
func (d *Diagnostics) Err() error {
	if d.Empty() {
		return nil
	}
	rank := map[*Source]int{} // documents in the order in which they came
	type key struct {
		Pos
		message string
	}
	seen := map[key]bool{}
	var list []*Diagnostic
	for _, m := range d.list {
		if _, ok := rank[m.Pos.Source]; !ok {
			rank[m.Pos.Source] = len(rank)
		}
		if k := (key{m.Pos, m.Message}); !seen[k] {
			seen[k] = true
			list = append(list, m)
		}
	}
	slices.SortStableFunc(list, func(a, b *Diagnostic) int {
		return cmp.Or(cmp.Compare(rank[a.Pos.Source], rank[b.Pos.Source]),
			cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Column, b.Pos.Column))
	})
	err := &multierror.Error{ErrorFormat: formatAll}
	for i, m := range list {
		if i == maxReported {
			return multierror.Append(err, fmt.Errorf("and %d mistakes more", len(list)-i))
		}
		err = multierror.Append(err, m)
	}
	return err
}

func formatAll(errs []error) string {
	texts := make([]string, len(errs))
	for i, e := range errs {
		texts[i] = e.Error()
	}
	return strings.Join(texts, "\n")
}

// Suggest returns `; did you mean "x"?` for the candidate nearest to name, or
// "" when none is near.
func Suggest(name string, candidates []string) string {
	best, bestDistance := "", max(1, len(name)/3)+1
	if len(name) > 100 {
		return ""
	}
	for _, c := range candidates {
		if len(c) > 2*len(name)+2 {
			continue
		}
		if d := distance(strings.ToLower(name), strings.ToLower(c)); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is the number of insertions, deletions, replacements and swaps of
// neighbours that turn a into b.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}

// clip shortens a message that quotes a very long input and takes out what a
// terminal would act on.
func clip(s string) string {
	const most = 2000
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	return strings.Join(lines, "\n")
}
