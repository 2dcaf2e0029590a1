package audit

import (
	"fmt"
	"unicode/utf8"

	"certbook/engine"
)

// scrub returns a copy of an event without what looks like a secret and with
// long texts shortened, and says how many values that were, those that the run
// had taken out before included.
func scrub(e engine.Event) (clean engine.Event, secrets, cut int) {
	e.Outputs = nil // never recorded
	secrets = e.Redacted
	clean = engine.MapTexts(e, func(key, text string) string {
		text, found := engine.Scrub(key, text)
		secrets += found
		if len(text) > MaxText {
			cut++
			text = shorten(text)
		}
		return text
	})
	return clean, secrets, cut
}

// shorten returns the first MaxText bytes of a text and says what it leaves out.
func shorten(t string) string {
	end := MaxText
	for end > 0 && !utf8.RuneStart(t[end]) {
		end--
	}
	return fmt.Sprintf("%s... (%d bytes left out)", t[:end], len(t)-end)
}
