package engine

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"certbook/schema"
)

// secrets are the values of secret variables, and of expressions that use one.
// They must not be in what leaves a run: events and the report. The zero value
// has none. Its methods may be called concurrently.
type secrets struct {
	mu     sync.RWMutex
	values []string // as they are
	forms  []string // in the ways in which they may be written, longest first
}

// clone returns a copy that grows on its own; of nil one without secrets.
func (s *secrets) clone() *secrets {
	if s == nil {
		return &secrets{}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return &secrets{values: slices.Clone(s.values), forms: slices.Clone(s.forms)}
}

// add adds the texts in a value of an expression. What is too short to be told
// from other text is left out; the documents' own secrets are longer.
func (s *secrets) add(value any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range textsOf(value) {
		if utf8.RuneCountInString(text) < schema.MinSecret || slices.Contains(s.values, text) {
			continue
		}
		s.values = append(s.values, text)
		for _, form := range formsOf(text) {
			if !slices.Contains(s.forms, form) {
				s.forms = append(s.forms, form)
			}
		}
	}
	slices.SortStableFunc(s.forms, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
}

// formsOf returns a text as messages may have it: as it is, quoted by Go or for
// a shell, in base64, and line by line.
func formsOf(text string) []string {
	quoted := strconv.Quote(text)
	forms := []string{text, quoted[1 : len(quoted)-1], strings.ReplaceAll(text, "'", `'\''`), base64.StdEncoding.EncodeToString([]byte(text))}
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimSpace(line); utf8.RuneCountInString(line) >= 2*schema.MinSecret {
			forms = append(forms, line)
		}
	}
	return forms
}

// textsOf returns the texts and numbers in a value of an expression. The keys of
// mappings are names.
func textsOf(value any) []string {
	var list []string
	switch v := value.(type) {
	case nil, bool:
	case string:
		list = append(list, v)
	case []any:
		for _, item := range v {
			list = append(list, textsOf(item)...)
		}
	case map[string]any:
		for _, key := range sortedKeys(v) {
			list = append(list, textsOf(v[key])...)
		}
	default:
		list = append(list, fmt.Sprint(v))
	}
	return list
}

// in reports whether a value of an expression holds a secret.
func (s *secrets) in(value any) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.values) > 0 && slices.ContainsFunc(textsOf(value), func(text string) bool {
		return slices.ContainsFunc(s.values, func(secret string) bool { return strings.Contains(text, secret) })
	})
}

// masks returns what a host has to take out of what it reports of a command,
// before it shortens it.
func (s *secrets) masks() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.forms
}

// mask returns a text without secrets, and how many it took out.
func (s *secrets) mask(text string) (masked string, found int) {
	for _, form := range s.masks() {
		if n := strings.Count(text, form); n > 0 {
			text, found = strings.ReplaceAll(text, form, "***"), found+n
		}
	}
	return text, found
}

// clean returns a text without secrets and without what looks like one, and
// how many it took out. key is its key in a mapping, "" elsewhere.
func (s *secrets) clean(key, text string) (cleaned string, found int) {
	text, found = s.mask(text)
	text, more := Scrub(key, text)
	return text, found + more
}

// event returns an event without secrets. The names of hosts and steps are no
// place for one.
func (s *secrets) event(e Event) Event {
	n := 0
	clean := func(key, text string) string {
		text, found := s.clean(key, text)
		n += found
		return text
	}
	e.Message, e.Error, e.Argv, e.Path = clean("", e.Message), clean("", e.Error), clean("", e.Argv), clean("", e.Path)
	e.Changes, e.Done = MapTexts(e.Changes, clean), MapTexts(e.Done, clean)
	e.Warnings, e.Outputs = MapTexts(e.Warnings, clean), MapTexts(e.Outputs, clean)
	e.Redacted = n
	return e
}

// report takes the secrets out of a report.
func (s *secrets) report(rep *Report) {
	text := func(key, text string) string {
		text, _ = s.clean(key, text)
		return text
	}
	rep.Err = s.error(rep.Err)
	for _, h := range rep.Hosts {
		h.Err = s.error(h.Err)
	}
	for _, steps := range rep.Steps {
		for _, step := range steps {
			step.Reason = text("", step.Reason)
			step.Changes, step.Done = MapTexts(step.Changes, text), MapTexts(step.Done, text)
			step.Warnings, step.Outputs = MapTexts(step.Warnings, text), MapTexts(step.Outputs, text)
		}
	}
}

// error returns err, or when its text holds a secret another one.
func (s *secrets) error(err error) error {
	if err == nil {
		return nil
	}
	if text, found := s.clean("", err.Error()); found > 0 {
		return errors.New(text)
	}
	return err
}
