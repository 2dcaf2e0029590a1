package actions

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// parseMode reads a file mode in octal, as in 0600; "" is 0.
func parseMode(s string) (fs.FileMode, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "0o"), 8, 12)
	if err != nil {
		return 0, fmt.Errorf("%q is not a file mode such as 0600", s)
	}
	return fs.FileMode(n), nil
}
