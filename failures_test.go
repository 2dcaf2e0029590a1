package certbook_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFailuresPage holds docs/failures.md to its word: every case names tests,
// and every test is there.
func TestFailuresPage(t *testing.T) {
	page, err := os.ReadFile("docs/failures.md")
	require.NoError(t, err)
	cases, mistakes := readFailures(string(page))
	require.Empty(t, mistakes)
	require.Greater(t, len(cases), 40)
	for _, c := range cases {
		for _, ref := range c.tests {
			require.Empty(t, missing(t, ref), "case %d", c.number)
		}
	}
}

// TestFailuresPageMistakes shows that the test above finds what is wrong.
func TestFailuresPageMistakes(t *testing.T) {
	const head = "| 1 | a | b | `engine TestTheOneLoop` |\n"
	for row, want := range map[string]string{
		"| 2 | a | b | |\n":                       "case 2 names no test",
		"| 2 | a | b | TestTheOneLoop |\n":        "case 2 names no test",
		"| 2 | a | b |\n":                         `"| 2 | a | b |" has 3 cells, want 4`,
		"| 2 | a | | `engine TestTheOneLoop` |\n": "case 2: a cell is empty",
		"| 1 | a | b | `engine TestUntil` |\n":    "case 1 comes after case 1",
	} {
		_, mistakes := readFailures(head + row)
		require.Equal(t, []string{want}, mistakes, row)
	}
	for ref, want := range map[string]string{
		"engine TestTheOneLoop":                                 "",
		"lab/e2e TestMemberDown":                                "",
		"actions/kube FuzzSurvey":                               "",
		"cmd/certbook TestTrapsRefused/expired CA":              "",
		"cmd/certbook/testdata/script/hostile.txtar":            "",
		"engine TestTheOneloop":                                 "no test TestTheOneloop in engine",
		"engine TestSudo":                                       "no test TestSudo in engine",
		"nowhere TestTheOneLoop":                                "no test TestTheOneLoop in nowhere",
		"engine world":                                          `"engine world" is not a test`,
		"cmd/certbook TestTrapsRefused/expired":                 `TestTrapsRefused in cmd/certbook has no case "expired"`,
		"cmd/certbook TestTrapBundle/expired CA":                `TestTrapBundle in cmd/certbook has no case "expired CA"`,
		"cmd/certbook/testdata/script/none.txtar":               "no file cmd/certbook/testdata/script/none.txtar",
		"cmd/certbook/testdata/script/../../script_test.go":     `"cmd/certbook/testdata/script/../../script_test.go" is not a test`,
		"playbooks/renew.yaml":                                  `"playbooks/renew.yaml" is not a test`,
		"cmd/certbook TestTrapsRefused/expired CA/and its name": `TestTrapsRefused in cmd/certbook has no case "and its name"`,
	} {
		require.Equal(t, want, missing(t, ref), ref)
	}
}

// failure is one row of the page.
type failure struct {
	number int
	tests  []string // "DIRECTORY TestName", "DIRECTORY TestName/CASE" or the path of a script
}

var (
	failureRow = regexp.MustCompile(`^\| *\d+ *\|`)
	quoted     = regexp.MustCompile("`([^`]+)`")
	testRef    = regexp.MustCompile(`^([a-z0-9/.]+) ((?:Test|Fuzz)[A-Za-z0-9]+)(?:/(.+))?$`)
	scriptRef  = regexp.MustCompile(`^cmd/certbook/testdata/script/[a-z_]+\.txtar$`)
)

// readFailures returns the rows that begin with a number and what is wrong with
// them: number, case, what Certbook does, tests.
func readFailures(page string) (cases []failure, mistakes []string) {
	wrong := func(format string, args ...any) { mistakes = append(mistakes, fmt.Sprintf(format, args...)) }
	last := 0
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		if !failureRow.MatchString(line) {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 4 {
			wrong("%q has %d cells, want 4", line, len(cells))
			continue
		}
		c := failure{}
		c.number, _ = strconv.Atoi(strings.TrimSpace(cells[0])) // the form is known
		if c.number <= last {
			wrong("case %d comes after case %d", c.number, last)
		}
		last = c.number
		if strings.TrimSpace(cells[1]) == "" || strings.TrimSpace(cells[2]) == "" {
			wrong("case %d: a cell is empty", c.number)
		}
		for _, m := range quoted.FindAllStringSubmatch(cells[3], -1) {
			c.tests = append(c.tests, m[1])
		}
		if len(c.tests) == 0 {
			wrong("case %d names no test", c.number)
		}
		cases = append(cases, c)
	}
	return cases, mistakes
}

// missing says what is not there of a test, "" when it is.
func missing(t *testing.T, ref string) string {
	t.Helper()
	if scriptRef.MatchString(ref) {
		if _, err := os.Stat(ref); err != nil {
			return "no file " + ref
		}
		return ""
	}
	m := testRef.FindStringSubmatch(ref)
	if m == nil {
		return fmt.Sprintf("%q is not a test", ref)
	}
	dir, name, cases := m[1], m[2], m[3]
	body := testFunction(t, dir, name)
	if body == nil {
		return fmt.Sprintf("no test %s in %s", name, dir)
	}
	if cases == "" {
		return ""
	}
	known := caseNames(body)
	for c := range strings.SplitSeq(cases, "/") {
		if !known[c] {
			return fmt.Sprintf("%s in %s has no case %q", name, dir, c)
		}
	}
	return ""
}

// testFunction returns a test of a directory, whatever its build constraints,
// nil when there is none.
func testFunction(t *testing.T, dir, name string) *ast.FuncDecl {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	require.NoError(t, err)
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == name {
				return fn
			}
		}
	}
	return nil
}

// caseNames returns the names that a test may give to its cases: keys and
// elements of its tables, and names given to Run.
func caseNames(fn *ast.FuncDecl) map[string]bool {
	names := map[string]bool{}
	ast.Inspect(fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			for _, e := range n.Elts {
				if pair, ok := e.(*ast.KeyValueExpr); ok {
					e = pair.Key
				}
				names[literal(e)] = true
			}
		case *ast.CallExpr:
			if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Run" && len(n.Args) == 2 {
				names[literal(n.Args[0])] = true
			}
		}
		return true
	})
	delete(names, "")
	return names
}
