package actions

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"certbook/actions/kube"
	"certbook/engine"
	"certbook/schema"
)

// RequestCerts makes certificate signing requests for what cannot be signed on
// its host.
type RequestCerts struct {
	To     string          `yaml:"to" required:"true" doc:"a directory on the controller that receives NAME.csr; NAME.crt is expected beside it when it is signed"`
	Before schema.Duration `yaml:"before" default:"30d" doc:"request what ends within this time"`
	Names  []string        `yaml:"names" doc:"only these certificates; all when not given"`
	Force  bool            `yaml:"force" doc:"request also what is not due"`
	Dir    string          `yaml:"dir" default:"/var/lib/certbook/requests" doc:"a directory on the host, 0700, that keeps the new private keys"`
}

// Requests is what RequestCerts finds.
type Requests struct {
	Requested []string `expr:"requested" doc:"names of the certificates for which there is a request" json:"requested"`
	Unsigned  []string `expr:"unsigned" doc:"those for which no certificate has come back" json:"unsigned"`
	To        string   `expr:"to" doc:"the directory on the controller" json:"to"`
}

func requestCertsSpec() engine.Spec {
	return engine.Spec{
		New:     func() engine.Action { return &RequestCerts{} },
		Outputs: Requests{},
		Summary: "make certificate signing requests for what its host cannot sign",
		Doc: `For each certificate that is due and whose CA's key is not on its host (an
external CA, an external etcd) the host makes a new private key, which stays
there, and a request for the same certificate: subject, names, usages and kind of
key are those of the old one. The requests come to the controller as NAME.csr.

Nothing that the cluster uses is changed. A request that is there already and
still fits is kept, so that what was signed in the meantime stays good. Sign them
(sign-certs does that on the host of an external etcd; for your own CA do as it
prescribes), put each certificate beside its request as NAME.crt, and let
install-certs do the rest.`,
		Example: `- id: requests
  action: request-certs
  with: {to: "requests/${host.name}"}`,
	}
}

var _ engine.Preparer = (*RequestCerts)(nil)

// Prepares implements engine.Preparer.
func (a *RequestCerts) Prepares() {}

// Check implements engine.Action.
func (a *RequestCerts) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	targets, err := elsewhere(ctx, p, a.Before.Std(), a.Names, a.Force)
	if err != nil {
		return engine.Result{}, err
	}
	have, err := readRequests(ctx, p, a.Dir, targets)
	if err != nil {
		return engine.Result{}, err
	}
	out := Requests{To: a.To}
	res := engine.Result{}
	for _, t := range targets {
		problem := have.problem(t)
		if problem == "" {
			sent, err := exchange(a.To).read(t.Name, ".csr")
			if err != nil {
				return res, err
			}
			if !bytes.Equal(sent, have.files[t.Name]) {
				problem = "the request is not on the controller"
			}
		}
		if problem != "" {
			res.Changes = append(res.Changes, engine.Change{Subject: t.Name, Path: t.Path, From: problem, To: "requested"})
			continue
		}
		out.Requested = append(out.Requested, t.Name)
		res.Done = append(res.Done, engine.Change{Subject: t.Name, To: "requested: " + exchange(a.To).file(t.Name, ".csr")})
		chain, err := signed(a.To, t.Name)
		if err != nil {
			return res, err
		}
		if len(chain) == 0 || !bytes.Equal(chain[0].RawSubjectPublicKeyInfo, have.public[t.Name]) {
			out.Unsigned = append(out.Unsigned, t.Name)
		}
	}
	res.Outputs = out
	return res, nil
}

// requestScript makes a key and a request in directory $1, called $2, with the
// configuration on standard input.
const requestScript = `set -eu
umask 077
mkdir -p -- "$1"
chmod 700 "$1"
cd -- "$1"
name=$2
shift 2
rm -f -- "$name.csr" "$name.key"
openssl req -new -nodes -config /dev/stdin "$@" -keyout "$name.key" -out "$name.csr.new" 2>&1
mv -- "$name.csr.new" "$name.csr"`

// Apply implements engine.Applier.
func (a *RequestCerts) Apply(ctx context.Context, h engine.Host) error {
	targets, err := elsewhere(ctx, h, a.Before.Std(), a.Names, a.Force)
	if err != nil {
		return err
	}
	have, err := readRequests(ctx, h, a.Dir, targets)
	if err != nil {
		return err
	}
	for _, t := range targets {
		if have.problem(t) == "" {
			continue
		}
		config, err := kube.RequestConfig(t.Leaf())
		if err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		key, err := kube.RequestKeyArgs(t.Leaf())
		if err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		argv := append([]string{"sh", "-c", requestScript, "sh", h.Path(a.Dir), t.Name}, key...)
		if _, err := h.Exec(ctx, engine.Command{Argv: argv, Stdin: config}); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
	}
	if have, err = readRequests(ctx, h, a.Dir, targets); err != nil {
		return err
	}
	for _, t := range targets {
		if problem := have.problem(t); problem != "" {
			return fmt.Errorf("%s: the new request is not what it should be: %s", t.Name, problem)
		}
		if err := exchange(a.To).write(t.Name, ".csr", have.files[t.Name]); err != nil {
			return err
		}
	}
	return nil
}

// elsewhere lists the certificates that are due and cannot be signed on their
// host.
func elsewhere(ctx context.Context, p engine.Probe, before time.Duration, names []string, force bool) ([]kube.Found, error) {
	layout, now, err := surveyNow(ctx, p)
	if err != nil {
		return nil, err
	}
	var list []kube.Found
	var known, problems []string
	for _, f := range kube.Inventory(layout, nil) {
		if !f.External || f.Kind == kube.KindCA {
			continue
		}
		known = append(known, f.Name)
		if names != nil && !slices.Contains(names, f.Name) {
			continue
		}
		switch s := f.State(now, before); {
		case s == kube.Missing && f.Optional || s == kube.OK && !force:
		case f.Leaf() == nil:
			problems = append(problems, fmt.Sprintf("%s: %s: %s; without the old certificate it is not known what to ask for", f.Name, f.Path, f.Reason))
		default:
			list = append(list, f)
		}
	}
	for _, n := range names {
		if !slices.Contains(known, n) {
			problems = append(problems, fmt.Sprintf("names: this host has no certificate %q that is signed elsewhere%s", n, schema.Suggest(n, known)))
		}
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("%s", strings.Join(problems, "; "))
	}
	return list, nil
}

// requests are those on a host, by name.
type requests struct {
	files  map[string][]byte
	public map[string][]byte // of the keys that wait, as SubjectPublicKeyInfo
}

func readRequests(ctx context.Context, p engine.Probe, dir string, targets []kube.Found) (requests, error) {
	r := requests{files: map[string][]byte{}, public: map[string][]byte{}}
	if len(targets) == 0 {
		return r, nil
	}
	var files, keys []string
	for _, t := range targets {
		files = append(files, path.Join(dir, t.Name+".csr"))
		keys = append(keys, path.Join(dir, t.Name+".key"))
	}
	list, err := p.ReadFiles(ctx, files...)
	if err != nil {
		return r, fmt.Errorf("requests: %w", err)
	}
	for _, f := range list {
		if f.Err != "" {
			return r, fmt.Errorf("%s: %s", f.Path, f.Err)
		}
		r.files[strings.TrimSuffix(path.Base(f.Path), ".csr")] = f.Data
	}
	public, err := p.PublicKeys(ctx, keys...)
	if err != nil {
		return r, fmt.Errorf("keys of the requests: %w", err)
	}
	for i, t := range targets {
		r.public[t.Name] = public[keys[i]]
	}
	return r, nil
}

// problem says why there is no good request for a certificate.
func (r requests) problem(f kube.Found) string {
	data, ok := r.files[f.Name]
	if !ok {
		return "no request"
	}
	req, err := kube.ParseRequest(data)
	if err != nil {
		return err.Error()
	}
	if err := kube.SameRequest(req, f.Leaf()); err != nil {
		return "the request is for another certificate: " + err.Error()
	}
	if !bytes.Equal(req.RawSubjectPublicKeyInfo, r.public[f.Name]) {
		return "the key of the request is not there"
	}
	return ""
}
