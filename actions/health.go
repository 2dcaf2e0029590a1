package actions

import (
	"context"
	"fmt"
	"strings"

	"certbook/actions/kube"
	"certbook/engine"
)

// awaitNew waits for another running container than old, and for its health.
func (a *RestartContainer) awaitNew(ctx context.Context, h engine.Host, c containers, m kube.Manifest, old string) error {
	ctx, cancel := context.WithTimeout(ctx, a.Wait.Std())
	defer cancel()
	if c.tool != "" {
		err := poll(ctx, pollInterval, func(ctx context.Context) (bool, string, error) {
			running, err := c.running(ctx, h, m.Component)
			return len(running) > 0 && running[0].ID != old, "no new container", err
		})
		if err != nil {
			return err
		}
	}
	return awaitHealthy(ctx, h, m, m.Component == kube.APIServer)
}

// awaitGone waits until a component has no running container, or, without a
// tool to ask, until nothing answers at its health URL.
func (a *RestartContainer) awaitGone(ctx context.Context, h engine.Host, c containers, m kube.Manifest) error {
	ctx, cancel := context.WithTimeout(ctx, a.grace(m.Component)+a.Wait.Std())
	defer cancel()
	return poll(ctx, pollInterval, func(ctx context.Context) (bool, string, error) {
		if c.tool != "" {
			running, err := c.running(ctx, h, m.Component)
			return len(running) == 0, "its container has not gone", err
		}
		_, err := h.Get(ctx, m.HealthURL())
		return err != nil && ctx.Err() == nil, "it still answers", nil // the end of ctx is an error of Get, too
	})
}

// awaitHealthy waits until a component's health URL answers 200, if anew twice in
// a row: an API server that has just started answers once and then restarts its
// informers.
func awaitHealthy(ctx context.Context, p engine.Probe, m kube.Manifest, anew bool) error {
	url := m.HealthURL()
	if url == "" {
		return nil
	}
	good := 0
	return poll(ctx, pollInterval, func(ctx context.Context) (bool, string, error) {
		problem := healthProblem(ctx, p, url)
		if problem == "" {
			good++
		} else {
			good = 0
		}
		return good >= 2 || good == 1 && !anew, problem, nil
	})
}

// healthProblem says in what way a health URL does not answer, "" when it does.
func healthProblem(ctx context.Context, p engine.Probe, url string) string {
	r, err := p.Get(ctx, url)
	switch {
	case err != nil:
		return fmt.Sprintf("%s: %v", url, err)
	case r.Status == 401 || r.Status == 403:
		return "" // it answers; anonymous requests are turned off
	case r.Status != 200:
		return fmt.Sprintf("%s: status %d: %s", url, r.Status, firstWords(r.Body))
	case strings.Contains(string(r.Body), `"health":"false"`):
		return fmt.Sprintf("%s: %s", url, firstWords(r.Body))
	}
	return ""
}

func firstWords(b []byte) string {
	words := strings.Fields(string(b))
	if len(words) > 30 {
		words = append(words[:30], "...")
	}
	return strings.Join(words, " ")
}
