package actions

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine"
	"certbook/engine/host/hosttest"
	"certbook/schema"
)

// systemd answers for one service that began at a time of the fake's clock.
func systemd(f *hosttest.Fake, invocation *string, began *time.Time) {
	f.Handle("sh", func(ctx context.Context, c engine.Command) (engine.Output, error) {
		if c.Argv[4] != "kubelet" {
			return engine.Output{Stdout: []byte("LoadState=not-found\n")}, nil
		}
		now, _ := f.Now(ctx)
		const uptime = 5000.0
		since := uptime - now.Sub(*began).Seconds()
		state := "ActiveState=active\nSubState=running"
		if *invocation == "" {
			state = "ActiveState=inactive\nSubState=dead"
		}
		text := "LoadState=loaded\n" + state + "\nInvocationID=" + *invocation +
			"\nExecMainStartTimestampMonotonic=" + number(since*1e6) + "\nUptime=" + number(uptime) + "\nNow=" + number(float64(now.Unix())) + "\n"
		return engine.Output{Stdout: []byte(text)}, nil
	})
	f.Handle("systemctl", func(ctx context.Context, c engine.Command) (engine.Output, error) {
		switch c.Argv[1] {
		case "restart":
			*invocation += "x"
			f.Advance(time.Second)
			*began, _ = f.Now(ctx)
		case "list-unit-files":
			return engine.Output{Stdout: []byte("kubelet.service enabled\nkube-vip.service enabled\nsshd.service enabled\n")}, nil
		}
		return engine.Output{}, nil
	})
}

func TestRestartService(t *testing.T) {
	f := hosttest.NewFake()
	f.Put("/conf", []byte("x"))
	f.Advance(time.Minute)
	began, _ := f.Now(t.Context())
	invocation := "a"
	systemd(f, &invocation, &began)
	service := func() *RestartService {
		return &RestartService{Name: "kubelet", Reads: []string{"/conf"}, Wait: schema.Duration(time.Minute)}
	}
	f.Advance(time.Minute)
	requireClean(t, service(), f)
	f.Put("/conf", []byte("y"))
	res := carryOut(t, service(), f)
	require.Equal(t, "ax", res.Done[0].After["invocation"])
	requireClean(t, service(), f)

	rolledBack := service()
	f.Advance(time.Minute)
	f.Put("/conf", []byte("z"))
	carryOut(t, rolledBack, f)
	f.Advance(time.Minute)
	f.Put("/conf", []byte("y"))
	rolledBack.Follow()
	carryOut(t, rolledBack, f) // it holds what was taken back

	invocation = "" // somebody has stopped it
	res = carryOut(t, service(), f)
	require.Equal(t, "x", res.Done[0].After["invocation"])

	forced := service()
	forced.Force = true
	carryOut(t, forced, f)
	always := service()
	always.Reads = nil
	carryOut(t, always, f)

	missing := service()
	missing.Name = "kube-apiserver"
	_, err := missing.Check(t.Context(), f)
	require.EqualError(t, err, `no unit "kube-apiserver" on this host; there are: kubelet, kube-vip`)
	require.ErrorContains(t, (&RestartService{Name: "--all"}).Validate(), `name: "--all" is not`)
	require.ErrorContains(t, (&RestartService{Name: "a", HealthURL: "x"}).Validate(), "health_url: ")
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', 6, 64) }
