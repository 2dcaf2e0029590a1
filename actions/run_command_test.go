package actions

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine"
	"certbook/engine/host/hosttest"
	"certbook/schema"
)

func command(argv ...string) *RunCommand {
	return &RunCommand{Argv: argv, ChangedWhen: "true", FailedWhen: "rc != 0"}
}

func TestRunCommand(t *testing.T) {
	f := hosttest.NewFake()
	a := command("echo", "a b", "$(c)")
	res := carryOut(t, a, f)
	require.Equal(t, CommandResult{Stdout: "a b $(c)\n", Changed: true}, res.Outputs)
	require.Len(t, f.Calls("Exec"), 1)

	made := command("touch", "/made")
	made.Creates = "/made"
	carryOut(t, made, f)
	again := command("touch", "/made")
	again.Creates = "/made"
	requireClean(t, again, f)

	liar := command("true")
	liar.Creates = "/never"
	require.NoError(t, liar.Apply(t.Context(), f))
	_, err := liar.Check(t.Context(), f)
	require.EqualError(t, err, "true: ran, but there is no /never")
}

func TestRunCommandQuestion(t *testing.T) {
	f := hosttest.NewFake()
	f.Handle("ask", func(context.Context, engine.Command) (engine.Output, error) {
		return engine.Output{Code: 3, Stdout: []byte("one unstarted\n")}, nil
	})
	a := command("ask")
	a.ReadOnly = true
	_, err := a.Check(t.Context(), f)
	var exit *engine.ExitError
	require.ErrorAs(t, err, &exit)
	a.FailedWhen, a.ChangedWhen = "false", "rc == 3"
	res, err := a.Check(t.Context(), f)
	require.NoError(t, err)
	require.Empty(t, res.Changes)
	require.Equal(t, CommandResult{RC: 3, Stdout: "one unstarted\n", Changed: true}, res.Outputs)
	a.FailedWhen = `stdout contains "unstarted"`
	_, err = a.Check(t.Context(), f)
	require.ErrorContains(t, err, "ask: exit status 3")
	require.Empty(t, f.Calls("Exec"), "a question is only asked")
}

func TestRunCommandRefuses(t *testing.T) {
	for want, change := range map[string]func(*RunCommand){
		"argv: name a program": func(a *RunCommand) { a.Argv = nil },
		"failed_when: ":        func(a *RunCommand) { a.FailedWhen = "rcc != 0" },
		"changed_when: ":       func(a *RunCommand) { a.ChangedWhen = "stdout" },
		"creates: a read_only": func(a *RunCommand) { a.ReadOnly, a.Creates = true, "/x" },
	} {
		a := command("true")
		change(a)
		require.ErrorContains(t, a.Validate(), want)
	}
	require.NoError(t, command("true").Validate())
}

func TestAssert(t *testing.T) {
	res, err := (&Assert{That: true, Message: "m"}).Check(t.Context(), hosttest.NewFake())
	require.NoError(t, err)
	require.Empty(t, res.Warnings)
	res, err = (&Assert{That: true, Message: "m", Warning: "w"}).Check(t.Context(), hosttest.NewFake())
	require.NoError(t, err)
	require.Equal(t, []string{"w"}, res.Warnings)
	_, err = (&Assert{Message: "m", Warning: "w"}).Check(t.Context(), hosttest.NewFake())
	require.EqualError(t, err, "m")
}

func TestConfirm(t *testing.T) {
	f := hosttest.NewFake()
	answer, failure := true, error(nil)
	ask := func(_ context.Context, q string) (bool, error) {
		require.Equal(t, "go on?", q)
		return answer, failure
	}
	carryOut(t, &Confirm{Message: "go on?", ask: ask}, f)
	answer = false
	require.EqualError(t, (&Confirm{Message: "go on?", ask: ask}).Apply(t.Context(), f), `answered no to "go on?"`)
	failure = errors.New("nobody there")
	require.ErrorIs(t, (&Confirm{Message: "go on?", ask: ask}).Apply(t.Context(), f), failure)
	require.Empty(t, f.Calls())
}

func TestWaitReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		a := func() *WaitReady {
			return &WaitReady{Components: []string{"etcd", "kube-apiserver", "kube-scheduler", "none"}, Within: schema.Duration(time.Minute)}
		}
		requireClean(t, a(), n)
		n.sick["kube-scheduler"] = true
		res, err := a().Check(t.Context(), n)
		require.NoError(t, err)
		require.Equal(t, []engine.Change{{Subject: "kube-scheduler", From: "https://127.0.0.1:10259/readyz: status 500: not yet", To: "healthy"}}, res.Changes)
		err = a().Apply(t.Context(), n)
		require.ErrorContains(t, err, "kube-scheduler is not healthy after 1m")
		require.ErrorContains(t, err, "status 500: not yet")
		time.AfterFunc(10*time.Second, func() { n.Answer(healthURLs["kube-scheduler"], ok) })
		carryOut(t, a(), n)

		url := &WaitReady{URLs: []string{"https://127.0.0.1:9/"}, Within: schema.Duration(time.Second)}
		require.ErrorContains(t, url.Apply(t.Context(), n), "connection refused")
		n.Answer("https://127.0.0.1:9/", func() (engine.Response, error) {
			return engine.Response{Status: 200, Body: []byte(`{"health":"false"}`)}, nil
		})
		require.ErrorContains(t, url.Apply(t.Context(), n), `{"health":"false"}`)
	})
	require.ErrorContains(t, (&WaitReady{URLs: []string{"ftp://x"}}).Validate(), `"ftp://x" is not an http or https URL`)
}

func ok() (engine.Response, error) { return engine.Response{Status: 200}, nil }
