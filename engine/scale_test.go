package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"certbook/engine"
	"certbook/schema"

	"github.com/stretchr/testify/require"
)

// TestManyHosts compiles and runs for 200 hosts. It takes about a second; an
// environment of all hosts for each expression takes minutes.
func TestManyHosts(t *testing.T) {
	var hosts, steps strings.Builder
	for i := range 200 {
		fmt.Fprintf(&hosts, "  h%d:\n", i)
	}
	for i := range 10 {
		fmt.Fprintf(&steps, "  - {id: s%d, action: look, when: 'host.name != \"\"', with: {text: '${run.id}-${host.name}'}}\n", i)
	}
	inv, err := schema.ParseInventory(&schema.Source{Name: "hosts.yaml", Data: []byte("version: 1\nhosts:\n" + hosts.String())})
	require.NoError(t, err)
	c := compiler(t, "plays:\n- name: p\n  hosts: all\n  steps:\n"+steps.String()+"  - {id: far, action: look, when: hosts.h7.steps.s3.count == 0}\n")
	c.Inventory = inv
	done := make(chan *engine.Report, 1)
	go func() {
		plan, err := c.Compile()
		if err != nil {
			done <- &engine.Report{Err: err}
			return
		}
		done <- newWorld().runner().Run(context.Background(), plan, engine.Origin{})
	}()
	select {
	case rep := <-done:
		require.NoError(t, rep.Err)
		require.Equal(t, engine.OutcomeOK, rep.Outcome)
	case <-time.After(time.Minute):
		t.Fatal("the work grows with the square of the number of hosts")
	}
}
