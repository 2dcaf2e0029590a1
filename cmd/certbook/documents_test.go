package main

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestRunIDsSortByTime also within a second.
func TestRunIDsSortByTime(t *testing.T) {
	at := time.Date(2026, 11, 25, 3, 59, 59, 999_990_000, time.UTC)
	var ids []string
	for range 20 {
		ids = append(ids, newRunID(at))
		at = at.Add(time.Microsecond)
	}
	require.True(t, slices.IsSorted(ids), ids)
	require.Regexp(t, `^20261125T035959Z-[0-9a-f]{6}$`, ids[0])
}
