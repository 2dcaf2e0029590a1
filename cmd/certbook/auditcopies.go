package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"certbook/engine/audit"
	"certbook/schema"
)

// copyVerdict is what one host's copy of a checkpoint says of a log.
type copyVerdict struct {
	Host   string `json:"host"`
	State  string `json:"state"` // agrees, differs, missing or unknown: it cannot be asked
	Reason string `json:"reason,omitempty"`
}

// hosts returns a function that compares a log with the copies on the hosts
// that the flags name.
func (v *verification) hosts(ctx context.Context) (func(string, audit.Summary) []copyVerdict, error) {
	inv, err := v.docs.loadInventory()
	if err == nil {
		inv, err = v.withSecrets(ctx, inv)
	}
	if err != nil {
		return nil, usageError{err}
	}
	var mistakes schema.Diagnostics
	names := inv.Select(parseLimit(v.docs.limit), &mistakes)
	if err := mistakes.Err(); err != nil {
		return nil, usageError{err}
	}
	d := v.dialer(inv)
	return func(file string, sum audit.Summary) []copyVerdict {
		list := make([]copyVerdict, len(names))
		errs := v.onHosts(names, func(name string) (err error) {
			i := slices.Index(names, name)
			list[i], err = v.compare(ctx, d, name, file, sum)
			return err
		})
		for i, err := range errs {
			if err != nil {
				list[i] = copyVerdict{Host: names[i], State: "unknown", Reason: err.Error()}
			}
		}
		return list
	}, nil
}

// compare reads the copy on one host and holds the log against it.
func (v *verification) compare(ctx context.Context, d *dialer, name, file string, sum audit.Summary) (copyVerdict, error) {
	out := copyVerdict{Host: name, State: "missing"}
	path := copyPath(sum.Run)
	if !checkpointCopy.MatchString(sum.Run + ".json") {
		return out, fmt.Errorf("run %q has no checkpoint: that is no run's name", sum.Run)
	}
	h, err := d.dial(ctx, name)
	if err != nil {
		return out, err
	}
	defer h.Close()
	files, err := h.ReadFiles(ctx, path, path+".sig")
	if err != nil {
		return out, err
	}
	var doc, sig []byte
	for _, f := range files {
		switch {
		case f.Err != "":
			return out, fmt.Errorf("%s: %s", f.Path, f.Err)
		case f.Path == path:
			doc = f.Data
		default:
			sig = f.Data
		}
	}
	if doc == nil {
		return out, nil
	}
	c, err := audit.VerifyCopy(file, doc, sig, v.signers)
	if err != nil {
		out.State, out.Reason = "differs", err.Error()
		return out, nil
	}
	out.State, out.Reason = "agrees", fmt.Sprintf("%d lines", c.Lines)
	return out, nil
}

// differing is the error of a comparison that does not speak for the log.
func differing(copies []copyVerdict) error {
	var texts []string
	agrees := false
	for _, c := range copies {
		switch c.State {
		case "differs", "unknown":
			texts = append(texts, c.Host+" "+c.State)
		case "agrees":
			agrees = true
		}
	}
	switch {
	case len(texts) > 0:
		return errors.New("the copies on the hosts do not confirm it: " + strings.Join(texts, ", "))
	case !agrees:
		return errors.New("no host has a copy of its checkpoint")
	}
	return nil
}
