package actions

import (
	"context"
	"strings"
	"time"

	"certbook/actions/kube"
	"certbook/engine"
)

// judged is a certificate that was replaced, and what is to be said of it.
type judged struct {
	name     string
	change   engine.Change
	findings []kube.Finding
}

// judgeAll judges what is on disk now against the certificates that were there
// before. want is what each should be, for people.
func judgeAll(ctx context.Context, p engine.Probe, before []kube.Found, want string) ([]judged, error) {
	var keys []string
	for _, b := range before {
		keys = append(keys, b.KeyPath)
	}
	var layout kube.Layout
	var now time.Time
	var public map[string][]byte
	err := together(
		func() (err error) { layout, now, err = surveyNow(ctx, p); return err },
		func() (err error) { public, err = p.PublicKeys(ctx, keys...); return err },
	)
	if err != nil {
		return nil, err
	}
	found := kube.Inventory(layout, nil)
	var list []judged
	for _, b := range before {
		after := find(found, b.Name)
		j := judged{name: b.Name, findings: kube.Judge(b.Leaf(), after.Leaf(), chainOf(found, b.CA), public[b.KeyPath], now)}
		j.change = engine.Change{Subject: b.Name, Path: b.Path, Before: certificate(b), After: certificate(after), From: ends(b), To: ends(after)}
		if kube.HasFatal(j.findings) {
			j.change.From, j.change.To = explain(j.findings), want
		}
		list = append(list, j)
	}
	return list, nil
}

// sortOut puts what is judged into a result: as done, or as still to be changed.
// It returns those that are done.
func sortOut(list []judged, res *engine.Result) []judged {
	var good []judged
	var texts []string
	of := map[string][]string{} // the certificates that a warning is about
	for _, j := range list {
		if kube.HasFatal(j.findings) {
			res.Changes = append(res.Changes, j.change)
			continue
		}
		res.Done = append(res.Done, j.change)
		good = append(good, j)
		for _, f := range j.findings {
			text := describeFinding(f)
			if of[text] == nil {
				texts = append(texts, text)
			}
			of[text] = append(of[text], j.name)
		}
	}
	for _, text := range texts {
		res.Warnings = append(res.Warnings, strings.Join(of[text], ", ")+": "+text)
	}
	return good
}
