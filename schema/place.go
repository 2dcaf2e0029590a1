package schema

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

const anyQuotes = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle

// TextPos returns where a scalar begins, after an opening quote.
func (v Value) TextPos() Pos {
	p := v.Pos()
	if v.Node != nil && v.Node.Style&anyQuotes != 0 {
		p.Column++
	}
	return p
}

// At returns where byte n of a scalar's text is written. Quotes, escapes,
// indentation and folded lines are accounted for. A text that is not written
// there, as an action's default, gives the place of the value.
func (v Value) At(n int) Pos {
	if v.Node == nil || v.Source == nil || v.Node.Kind != yaml.ScalarNode {
		return v.Pos()
	}
	raw := v.Source.from(v.Node.Line, v.Node.Column)
	s := scan{raw: raw, text: v.Node.Value, style: v.Node.Style}
	s.begin()
	if !s.advance(min(n, len(s.text))) {
		return v.Pos()
	}
	p := v.Pos()
	passed := raw[:s.r]
	if end := bytes.LastIndexByte(passed, '\n'); end >= 0 {
		p.Line += bytes.Count(passed, []byte("\n"))
		p.Column = 1
		passed = passed[end+1:]
	}
	return p.Move(utf8.RuneCount(passed))
}

// scan goes through a scalar's text and the bytes that it was written with,
// side by side.
type scan struct {
	raw  []byte
	text string
	r, t int // how far it is in raw and in text

	style yaml.Style
}

// begin passes a tag, an opening quote or the first line of a block scalar.
func (s *scan) begin() {
	if bytes.HasPrefix(s.raw, []byte("!!str")) {
		s.r = len("!!str")
		s.space()
	}
	switch {
	case s.style&anyQuotes != 0:
		s.r++
	case s.style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		s.r = max(bytes.IndexByte(s.raw, '\n'), 0)
	}
}

// advance goes to byte n of the text and reports whether raw is its source.
func (s *scan) advance(n int) bool {
	for s.t < n {
		if s.r >= len(s.raw) {
			return false
		}
		c := s.raw[s.r]
		switch {
		case c == '\n':
			s.space()
			for s.t < len(s.text) && isSpace(s.text[s.t]) {
				s.t++
			}
		case c == '\\' && s.style&yaml.DoubleQuotedStyle != 0:
			s.escape()
		case c == '\'' && s.style&yaml.SingleQuotedStyle != 0:
			s.r, s.t = s.r+2, s.t+1
		case c == s.text[s.t]:
			s.r, s.t = s.r+1, s.t+1
		case isSpace(c):
			s.r++ // at the end of a folded line
		default:
			return false
		}
	}
	if s.t < len(s.text) && !isSpace(s.text[s.t]) {
		s.space()
	}
	return s.r <= len(s.raw)
}

func (s *scan) space() {
	for s.r < len(s.raw) && isSpace(s.raw[s.r]) {
		s.r++
	}
}

// escape passes one escape of a double-quoted scalar.
func (s *scan) escape() {
	if s.r+1 >= len(s.raw) {
		s.r = len(s.raw)
		return
	}
	c := s.raw[s.r+1]
	s.r += 2
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
	switch {
	case digits > 0 && s.r+digits <= len(s.raw):
		code, _ := strconv.ParseUint(string(s.raw[s.r:s.r+digits]), 16, 32) // yaml has read it before
		s.r += digits
		s.t += max(utf8.RuneLen(rune(code)), 1)
	case c == '\n':
		s.space()
	case c == 'N' || c == '_':
		s.t += 2
	case c == 'L' || c == 'P':
		s.t += 3
	default:
		s.t++
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' }
