package engine

import "fmt"

// maxWeight bounds what one ${...} and one text with several of them may give:
// variables that use each other twice would else grow without end.
const maxWeight = 1 << 20

// weight returns how many bytes v takes, roughly: its texts, and 64 for each
// value. What is in it twice counts twice. It stops counting beyond limit.
func weight(v any, limit int) int {
	n := 64
	switch v := v.(type) {
	case string:
		n += len(v)
	case []any:
		for _, item := range v {
			if n > limit {
				break
			}
			n += weight(item, limit-n)
		}
	case map[string]any:
		for key, item := range v {
			if n > limit {
				break
			}
			n += len(key) + weight(item, limit-n)
		}
	}
	return n
}

// bearable refuses a value that is too large to be a variable or an argument.
func bearable(v any) error {
	if weight(v, maxWeight) > maxWeight {
		return fmt.Errorf("gives more than %d bytes", maxWeight)
	}
	return nil
}
