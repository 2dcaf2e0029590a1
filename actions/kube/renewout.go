package kube

import (
	"regexp"
	"strings"
)

// RenewStatus is what kubeadm says it did with one certificate.
type RenewStatus string

// What kubeadm says.
const (
	Renewed     RenewStatus = "renewed"
	NotThere    RenewStatus = "missing"
	ExternalCA  RenewStatus = "external-ca"
	RenewFailed RenewStatus = "failed"
)

// Outcome is one certificate in the output of kubeadm certs renew.
type Outcome struct {
	Name   string // kubeadm's name; "" when the output does not tell
	Status RenewStatus
	Detail string // the error, or the CA whose key is not here
}

// RenewOutput is what kubeadm certs renew printed. It is a claim: only the
// certificates themselves prove a renewal.
type RenewOutput struct {
	Outcomes []Outcome
	Fallback bool // the cluster's configuration could not be read and kubeadm used its defaults
	NoOp     bool // kubeadm printed a help text and did nothing
	Done     bool // the closing line of "renew all" is there
}

// longNames are kubeadm's names for people, the same from 1.15 to 1.37.
var longNames = map[string]string{
	"certificate embedded in the kubeconfig file for the admin to use and for kubeadm itself": "admin.conf",
	"certificate embedded in the kubeconfig file for the super-admin":                         "super-admin.conf",
	"certificate embedded in the kubeconfig file for the controller manager to use":           "controller-manager.conf",
	"certificate embedded in the kubeconfig file for the scheduler manager to use":            "scheduler.conf",
	"certificate for serving the Kubernetes API":                                              "apiserver",
	"certificate the apiserver uses to access etcd":                                           "apiserver-etcd-client",
	"certificate for the API server to connect to kubelet":                                    "apiserver-kubelet-client",
	"certificate for the front proxy client":                                                  "front-proxy-client",
	"certificate for liveness probes to healthcheck etcd":                                     "etcd-healthcheck-client",
	"certificate for etcd nodes to communicate with each other":                               "etcd-peer",
	"certificate for serving etcd":                                                            "etcd-server",
}

var (
	externalLine = regexp.MustCompile(`^Detected external (\S+), (.+) can't be renewed$`)
	failureLine  = regexp.MustCompile(`^(?:failed to (?:renew|load existing|write new|write) certificate|failure while \w+) (\S+?)(?: CSR.*| key)?:`)
	confFailure  = regexp.MustCompile(`^(?:failed to load kubeConfig file|invalid kubeConfig file|kubeConfig file) \S*/([a-z-]+\.conf)\b`)
	baseNames    = map[string]string{"etcd/server": "etcd-server", "etcd/peer": "etcd-peer", "etcd/healthcheck-client": "etcd-healthcheck-client"}
)

const maxOutcomes = 64

// ParseRenew reads the output of kubeadm certs renew of any version. code is
// its exit status; a failure that the output does not explain is an outcome
// without a name.
func ParseRenew(stdout, stderr []byte, code int) RenewOutput {
	var out RenewOutput
	for line := range strings.Lines(bounded(stdout)) {
		out.line(strings.TrimSpace(line))
	}
	failure := ""
	for line := range strings.Lines(bounded(stderr)) {
		line = strings.TrimSpace(line)
		out.flags(line)
		line = strings.TrimSpace(strings.TrimPrefix(line, "error:"))
		if line != "" && failure == "" && !klog(line) && !strings.HasPrefix(line, "To see the stack trace") && !strings.HasPrefix(line, "[") {
			failure = line
		}
	}
	if code != 0 {
		if failure == "" {
			failure = "kubeadm gave no reason"
		}
		out.Outcomes = out.Outcomes[:min(len(out.Outcomes), maxOutcomes-1)] // the failure counts most
		out.add(Outcome{Name: failedName(failure), Status: RenewFailed, Detail: clip(failure)})
	}
	out.NoOp = out.NoOp && len(out.Outcomes) == 0
	return out
}

func bounded(b []byte) string { return string(b[:min(len(b), MaxFile)]) }

// klog says whether a line is a log message such as "W1124 06:34:36.99 ...".
func klog(line string) bool {
	return len(line) > 5 && strings.IndexByte("IWEF", line[0]) >= 0 && strings.Trim(line[1:5], "0123456789") == ""
}

func (o *RenewOutput) line(line string) {
	o.flags(line)
	if m := externalLine.FindStringSubmatch(line); m != nil {
		o.add(Outcome{Name: longNames[m[2]], Status: ExternalCA, Detail: clip(m[1])})
	} else if long, ok := strings.CutPrefix(line, "MISSING! "); ok {
		o.add(Outcome{Name: longNames[long], Status: NotThere})
	} else if long, ok := strings.CutSuffix(line, " renewed"); ok && longNames[long] != "" {
		o.add(Outcome{Name: longNames[long], Status: Renewed})
	}
}

func (o *RenewOutput) flags(line string) {
	switch {
	case strings.Contains(line, "Falling back to default configuration"):
		o.Fallback = true
	case strings.HasPrefix(line, "Done renewing certificates"):
		o.Done = true
	case strings.Contains(line, "experimental sub-commands"), strings.HasPrefix(line, "Usage:"), strings.HasPrefix(line, "This command is not meant to be run on its own"):
		o.NoOp = true
	}
}

func (o *RenewOutput) add(outcome Outcome) {
	if len(o.Outcomes) < maxOutcomes {
		o.Outcomes = append(o.Outcomes, outcome)
	}
}

func failedName(line string) string {
	for _, form := range []*regexp.Regexp{failureLine, confFailure} {
		if m := form.FindStringSubmatch(line); m != nil {
			if name := baseNames[m[1]]; name != "" {
				return name
			}
			return clip(m[1])
		}
	}
	return ""
}

// Of returns the outcome of one certificate.
func (o RenewOutput) Of(name string) (Outcome, bool) {
	for _, outcome := range o.Outcomes {
		if outcome.Name == name {
			return outcome, true
		}
	}
	return Outcome{}, false
}
