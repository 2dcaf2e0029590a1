// Package actions holds Certbook's verbs: one file each, with its test beside
// it. Registry is the list of them.
//
// An action's struct fields are its arguments; its Check reads the host and
// says what is not as it should be; its Apply makes it so. What kubeadm lays
// out on a host, and what its commands mean, is known to actions/kube alone.
package actions

import (
	"context"
	"time"

	"certbook/engine"
)

// Context is what actions need of the controller.
type Context struct {
	// Ask puts a question to a person and returns the answer. It is an error
	// when nobody is there to ask.
	Ask func(ctx context.Context, question string) (bool, error)

	// Now is the controller's clock, which preflight compares with the host's.
	Now func() time.Time

	// Lock says in whose name lock-cluster locks, and what it takes over.
	Lock engine.Locking
}

// Registry returns all actions by name.
func Registry(c Context) engine.Registry {
	return engine.Registry{
		"assert":            assertSpec(),
		"backup-dir":        backupDirSpec(),
		"check-expiry":      checkExpirySpec(),
		"confirm":           confirmSpec(c),
		"copy-file":         copyFileSpec(),
		"gen-kubeconfig":    genKubeconfigSpec(),
		"health-gate":       healthGateSpec(),
		"install-certs":     installCertsSpec(),
		"lock-cluster":      lockClusterSpec(c),
		"preflight":         preflightSpec(c),
		"renew-certs":       renewCertsSpec(),
		"repair-run":        repairRunSpec(),
		"request-certs":     requestCertsSpec(),
		"restart-container": restartContainerSpec(),
		"restart-service":   restartServiceSpec(),
		"restore-dir":       restoreDirSpec(),
		"run-command":       runCommandSpec(),
		"sign-certs":        signCertsSpec(),
		"undo-run":          undoRunSpec(),
		"verify-certs":      verifyCertsSpec(),
		"wait-ready":        waitReadySpec(),
	}
}
