package kube

import "strings"

// Args are the words of a command line after the program's name.
type Args []string

// Get returns the value of a flag, written as --name=value, --name value or
// with one dash. Of several the last one counts, as for the programs
// themselves. A flag without a value is "".
func (a Args) Get(name string) (value string, ok bool) {
	for i, word := range a {
		flag, v, has := strings.Cut(word, "=")
		if !isFlag(flag, name) {
			continue
		}
		value, ok = v, true
		if !has && i+1 < len(a) && !strings.HasPrefix(a[i+1], "-") {
			value = a[i+1]
		}
	}
	return value, ok
}

// Value is Get without the second result.
func (a Args) Value(name string) string {
	v, _ := a.Get(name)
	return v
}

// List returns the comma-separated values of a flag without empty ones.
func (a Args) List(name string) []string {
	var out []string
	for v := range strings.SplitSeq(a.Value(name), ",") {
		if v = strings.TrimSpace(v); v != "" {
			out = append(out, v)
		}
	}
	return out
}

func isFlag(word, name string) bool {
	return word == "--"+name || word == "-"+name
}

// maxWords is the number of words above which the rest of a command line is
// not looked at.
const maxWords = 4096

// environmentArgs collects the flags in a systemd unit, a drop-in or an
// environment file such as kubeadm-flags.env: KEY="--a=b --c=d" lines,
// Environment= and ExecStart= lines. References to variables are dropped.
func environmentArgs(data []byte) Args {
	if len(data) > MaxFile {
		return nil
	}
	src := strings.ReplaceAll(string(data), "\\\n", " ")
	var out Args
	for line := range strings.Lines(src) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		line = strings.Map(func(r rune) rune {
			if r == '"' || r == '\'' {
				return ' '
			}
			return r
		}, line)
		var words Args
		for _, word := range strings.Fields(line) {
			if i := strings.Index(word, "=--"); i >= 0 && !strings.HasPrefix(word, "-") {
				word = word[i+1:]
			}
			if keepWord(word, words) {
				words = append(words, word)
			}
		}
		if len(out)+len(words) > maxWords {
			break
		}
		out = append(out, words...)
	}
	return out
}

// keepWord says whether a word is a flag, or the value of the flag before it.
func keepWord(word string, before Args) bool {
	if strings.HasPrefix(word, "-") {
		return true
	}
	if len(before) == 0 || strings.HasPrefix(word, "$") || strings.HasSuffix(word, "=") {
		return false
	}
	last := before[len(before)-1]
	return strings.HasPrefix(last, "-") && !strings.Contains(last, "=")
}
