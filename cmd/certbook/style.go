package main

import (
	"io"
	"os"

	"certbook/engine/report"

	"golang.org/x/term"
)

// style decides on colour for a stream: only on a terminal, and never with
// NO_COLOR or on a dumb one.
func (s *session) style(w io.Writer) report.Style {
	st := report.Style{Verbose: s.verbose}
	f, ok := w.(*os.File)
	st.Color = ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
	return st
}
