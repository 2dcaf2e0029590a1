package kube

import (
	"bytes"
	"encoding/json"
	"time"
)

// Usage is whether a process uses the certificate that is on disk.
type Usage string

// The usages.
const (
	Current   Usage = "current"
	Stale     Usage = "stale"   // it holds the one before
	Refused   Usage = "refused" // it holds the one before, which is not accepted any more
	NotProven Usage = "not-proven"
)

// Turned says whether a component's log has a line since a time which tells
// that the API server has turned it away for its certificate. Lines are as
// kubelet keeps them: those of the CRI, or docker's JSON.
func Turned(log []byte, since time.Time) bool {
	for line := range bytes.Lines(log) {
		if !bytes.Contains(line, []byte("Unauthorized")) && !bytes.Contains(line, []byte("certificate has expired")) {
			continue
		}
		if at := logged(line); !at.IsZero() && !at.Before(since) {
			return true
		}
	}
	return false
}

// logged returns when a line was logged; zero when it does not say.
func logged(line []byte) time.Time {
	if bytes.HasPrefix(line, []byte("{")) {
		var docker struct {
			Time string `json:"time"`
		}
		if json.Unmarshal(line, &docker) != nil {
			return time.Time{}
		}
		return timestamp(docker.Time)
	}
	stamp, _, _ := bytes.Cut(line, []byte(" "))
	return timestamp(string(stamp))
}
