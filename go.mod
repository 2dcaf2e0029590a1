module certbook

go 1.26.0

require (
	filippo.io/age v1.3.2 // encrypted secrets; by the author of age, released in 2026, keys of age and of SSH
	github.com/expr-lang/expr v1.17.8 // conditions and ${...}
	github.com/hashicorp/go-multierror v1.1.1 // all mistakes at once
	github.com/hiddeco/sshsig v0.2.0 // signatures that ssh-keygen -Y verifies; small, needs only x/crypto
	github.com/kevinburke/ssh_config v1.6.0 // ~/.ssh/config, the parser that Go tools share; no dependencies
	github.com/spf13/cobra v1.10.2 // the command line, as kubectl and kubeadm have it
	github.com/spf13/pflag v1.0.9 // cobra's flags
	golang.org/x/crypto v0.58.0 // ssh
	golang.org/x/term v0.47.0 // is this a terminal; read a passphrase
	gopkg.in/yaml.v3 v3.0.1 // documents with the place of every value
)

// Only for tests.
require (
	github.com/rogpeppe/go-internal v1.16.0 // testscript: the command line as a user types it
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3 // holds documents against the generated schemas
	github.com/stretchr/testify v1.12.1 // assertions
	go.uber.org/goleak v1.3.0 // no goroutine is left
	golang.org/x/sys v0.49.0 // pseudo-terminals in tests; the lock of a log
)

require (
	filippo.io/edwards25519 v1.2.0 // indirect
	filippo.io/hpke v0.4.0 // indirect
	github.com/hashicorp/errwrap v1.0.0 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/kr/text v0.2.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/text v0.43.0 // indirect
	golang.org/x/tools v0.51.0 // indirect
)
