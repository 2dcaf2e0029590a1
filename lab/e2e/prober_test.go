//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// prober sends reads and writes to an API at a steady rate, each by a new TLS
// connection unless keep is set, and remembers what failed.
type prober struct {
	name   string
	base   string // URL
	client *http.Client
	stop   context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex
	requests int
	retried  []time.Time // first attempts that failed
	failed   []string    // requests whose second attempt failed too
	answers  []answer
}

// answer is how one first attempt ended.
type answer struct {
	at time.Time
	ok bool
}

const rate = 20 // requests a second

func probe(t *testing.T, name, address string, conf *tls.Config, every time.Duration, keep bool) *prober {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	conf = conf.Clone()
	p := &prober{name: name, base: "https://" + address, stop: stop, client: &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig: conf, DisableKeepAlives: !keep, ForceAttemptHTTP2: keep, TLSHandshakeTimeout: 5 * time.Second,
		},
	}}
	name = "probe-" + strings.ToLower(name)
	if err := p.do(ctx, "POST", "", configMap(name, "0")); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(every)
	p.done.Go(func() {
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			p.done.Go(func() { p.request(n, name) })
		}
	})
	t.Cleanup(func() { p.end() })
	return p
}

// request reads, updates or creates, once more if that fails.
func (p *prober) request(n int, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var try func() error
	switch n % 3 {
	case 0:
		try = func() error { return p.do(ctx, "GET", "/"+name, "") }
	case 1:
		try = func() error { return p.do(ctx, "PUT", "/"+name, configMap(name, fmt.Sprint(n))) }
	default:
		one := fmt.Sprintf("%s-%d", name, n)
		try = func() error { return p.do(ctx, "POST", "", configMap(one, "x")) }
	}
	began := time.Now()
	err := try()
	p.mu.Lock()
	p.requests++
	p.answers = append(p.answers, answer{began, err == nil})
	p.mu.Unlock()
	if err == nil {
		return
	}
	time.Sleep(100 * time.Millisecond)
	again := try()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retried = append(p.retried, began)
	if again != nil {
		p.failed = append(p.failed, fmt.Sprintf("%s: %v; then %v", began.Format(time.TimeOnly), err, again))
	}
}

func configMap(name, value string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q},"data":{"n":%q}}`, name, value)
}

// do sends one request. A second attempt to create may find what the first
// one has made.
func (p *prober) do(ctx context.Context, method, path, body string) error {
	req, err := http.NewRequestWithContext(ctx, method, p.base+"/api/v1/namespaces/default/configmaps"+path, bytes.NewBufferString(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if made := method == "POST" && resp.StatusCode == http.StatusConflict; resp.StatusCode >= 300 && !made {
		return fmt.Errorf("%s %s: %s: %.200s", method, path, resp.Status, text)
	}
	return nil
}

// more waits until so many further requests were answered, well or not.
func (p *prober) more(t *testing.T, n int) {
	t.Helper()
	count := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.answers)
	}
	from := count()
	eventually(t, time.Minute, func() error {
		if got := count() - from; got < n {
			return fmt.Errorf("%s: %d further answers, want %d", p.name, got, n)
		}
		return nil
	})
}

// end stops the prober and waits for what is under way.
func (p *prober) end() {
	p.stop()
	p.done.Wait()
}

func (p *prober) String() string {
	return fmt.Sprintf("%s: %d requests, %d failed, %d retried", p.name, p.requests, len(p.failed), len(p.retried))
}

// outage is a time in which a server did not answer.
type outage struct{ from, to time.Time }

func (o outage) String() string {
	return fmt.Sprintf("%.1f s from %s", o.to.Sub(o.from).Seconds(), o.from.Format(time.TimeOnly))
}

// outages returns the times from a failed request to the next good one. Those
// that are less than the gap apart are one.
func (p *prober) outages() []outage {
	const gap = 2 * time.Second
	var list []outage
	var open *outage
	for _, a := range p.sorted() {
		switch {
		case !a.ok && open == nil:
			open = &outage{a.at, a.at}
		case !a.ok:
			open.to = a.at
		case open != nil:
			open.to = a.at
			if n := len(list); n > 0 && open.from.Sub(list[n-1].to) < gap {
				list[n-1].to = open.to
			} else {
				list = append(list, *open)
			}
			open = nil
		}
	}
	if open != nil {
		list = append(list, *open)
	}
	return list
}

func (p *prober) sorted() []answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := slices.Clone(p.answers)
	slices.SortFunc(list, func(a, b answer) int { return a.at.Compare(b.at) })
	return list
}

// longest returns the longest outage, and all of them together.
func longest(list []outage) (most, sum time.Duration) {
	for _, o := range list {
		most = max(most, o.to.Sub(o.from))
		sum += o.to.Sub(o.from)
	}
	return most, sum
}
