package actions

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"time"

	"certbook/actions/kube"
	"certbook/engine"
	"certbook/schema"
)

// SignCerts signs requests of other hosts with a CA on this host.
type SignCerts struct {
	From     string          `yaml:"from" required:"true" doc:"a directory on the controller with one directory per host, as request-certs fills them; NAME.crt goes beside NAME.csr"`
	Names    []string        `yaml:"names" default:"[apiserver-etcd-client]" doc:"the certificates to sign: clients of etcd only"`
	Validity schema.Duration `yaml:"validity" default:"365d" doc:"how long they are valid, in whole days"`
	Scratch  string          `yaml:"scratch" default:"/run/certbook/${run.id}/sign" doc:"a directory on the host, removed afterwards"`
}

// Signatures is what SignCerts did.
type Signatures struct {
	Signed []string `expr:"signed" doc:"the certificates, as HOST/NAME" json:"signed"`
}

func signCertsSpec() engine.Spec {
	return engine.Spec{
		New:     func() engine.Action { return &SignCerts{} },
		Outputs: Signatures{},
		Summary: "sign other hosts' requests for clients of etcd, with the etcd CA of this host",
		Doc: `For an external etcd: its CA's key is on its own hosts, and the masters need a
client certificate. Takes the requests that request-certs has brought to the
controller, signs each that has no certificate yet with openssl on this host, and
puts the certificate beside it. No private key moves.

It signs nothing but a client of etcd: the common name must be the one that
kubeadm gives to that certificate, the usage clientAuth alone, without names and
without being a CA.`,
		Example: `- id: sign
  action: sign-certs
  with: {from: requests}`,
	}
}

var (
	_ engine.Preparer  = (*SignCerts)(nil)
	_ engine.Validator = (*SignCerts)(nil)
)

// Prepares implements engine.Preparer.
func (a *SignCerts) Prepares() {}

// Validate implements engine.Validator.
func (a *SignCerts) Validate() error {
	for _, n := range a.Names {
		if n != "apiserver-etcd-client" && n != "etcd-healthcheck-client" {
			return fmt.Errorf("names: %q is no client of etcd%s", n, schema.Suggest(n, []string{"apiserver-etcd-client", "etcd-healthcheck-client"}))
		}
	}
	if a.Validity.Std() < 24*time.Hour {
		return fmt.Errorf("validity: %s is less than a day", a.Validity)
	}
	return nil
}

// waiting is a request without a certificate.
type waiting struct {
	dir  exchange
	name string
	data []byte
}

func (w waiting) String() string { return filepath.Base(string(w.dir)) + "/" + w.name }

// find lists what is to be signed, and what was.
func (a *SignCerts) find() (todo, done []waiting, err error) {
	for _, name := range a.Names {
		files, err := filepath.Glob(filepath.Join(a.From, "*", name+".csr"))
		if err != nil {
			return nil, nil, fmt.Errorf("from: %w", err)
		}
		for _, f := range files {
			w := waiting{dir: exchange(filepath.Dir(f)), name: name}
			if w.data, err = w.dir.read(name, ".csr"); err != nil {
				return nil, nil, err
			}
			req, err := kube.ParseRequest(w.data)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", f, err)
			}
			if _, err := kube.SignConfig(name, req); err != nil {
				return nil, nil, fmt.Errorf("%s: %w; it is not signed", f, err)
			}
			chain, err := signed(string(w.dir), name)
			if err != nil {
				return nil, nil, err
			}
			if len(chain) > 0 && bytes.Equal(chain[0].RawSubjectPublicKeyInfo, req.RawSubjectPublicKeyInfo) {
				done = append(done, w)
			} else {
				todo = append(todo, w)
			}
		}
	}
	return todo, done, nil
}

// Check implements engine.Action.
func (a *SignCerts) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	todo, done, err := a.find()
	res := engine.Result{}
	out := Signatures{}
	for _, w := range todo {
		res.Changes = append(res.Changes, engine.Change{Subject: w.String(), From: "requested", To: "signed"})
	}
	for _, w := range done {
		out.Signed = append(out.Signed, w.String())
	}
	res.Outputs = out
	return res, err
}

// signScript signs the request $1/csr with the CA $2, $3 for $4 days, serial
// number $5.
const signScript = `set -eu
cd -- "$1"
openssl x509 -req -in csr -CA "$2" -CAkey "$3" -days "$4" -set_serial "$5" -sha256 -extfile extensions -out crt 2>&1
cat crt`

// Apply implements engine.Applier.
func (a *SignCerts) Apply(ctx context.Context, h engine.Host) (err error) {
	layout, err := survey(ctx, h)
	if err != nil {
		return err
	}
	ca := find(kube.Inventory(layout, nil), "etcd-ca")
	if ca.Leaf() == nil || ca.KeyPath == "" {
		return fmt.Errorf("etcd-ca: %s: %s", ca.Path, ca.Reason)
	}
	todo, _, err := a.find()
	if err != nil {
		return err
	}
	if _, err := h.Exec(ctx, engine.Command{Argv: []string{"sh", "-c", `umask 077; rm -rf -- "$1"; mkdir -p -- "$1"`, "sh", h.Path(a.Scratch)}}); err != nil {
		return err
	}
	defer func() {
		_, removeErr := h.Exec(context.WithoutCancel(ctx), engine.Command{Argv: []string{"rm", "-rf", "--", h.Path(a.Scratch)}})
		if err == nil {
			err = removeErr
		}
	}()
	for _, w := range todo {
		if err := a.sign(ctx, h, ca, w); err != nil {
			return fmt.Errorf("%s: %w", w, err)
		}
	}
	return nil
}

func (a *SignCerts) sign(ctx context.Context, h engine.Host, ca kube.Found, w waiting) error {
	req, err := kube.ParseRequest(w.data)
	if err != nil {
		return err
	}
	extensions, err := kube.SignConfig(w.name, req)
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{"csr": w.data, "extensions": extensions} {
		if err := h.WriteFile(ctx, a.Scratch+"/"+name, data, engine.FileOptions{Mode: 0o600}); err != nil {
			return err
		}
	}
	serial := make([]byte, 16)
	_, _ = rand.Read(serial) // never fails, see crypto/rand
	serial[0] &= 0x7f
	days := int(math.Round(a.Validity.Std().Hours() / 24))
	argv := []string{"sh", "-c", signScript, "sh", h.Path(a.Scratch), h.Path(ca.Path), h.Path(ca.KeyPath), strconv.Itoa(days), "0x" + hex.EncodeToString(serial)}
	out, err := h.Exec(ctx, engine.Command{Argv: argv})
	if err != nil {
		return err
	}
	chain, err := kube.ParseChain(out.Stdout)
	if err != nil {
		return fmt.Errorf("openssl's certificate: %w", err)
	}
	if !bytes.Equal(chain[0].RawSubjectPublicKeyInfo, req.RawSubjectPublicKeyInfo) || kube.SignedBy(chain[0], ca.Chain) == nil {
		return fmt.Errorf("openssl's certificate is not for this request, or not signed by %s", ca.Path)
	}
	if err := kube.SameRequest(req, chain[0]); err != nil {
		return fmt.Errorf("openssl's certificate: %w", err)
	}
	return w.dir.write(w.name, ".crt", out.Stdout)
}

// signed returns the certificate that came back for a request, nil when none
// has.
func signed(dir, name string) ([]*x509.Certificate, error) {
	data, err := exchange(dir).read(name, ".crt")
	if err != nil || data == nil {
		return nil, err
	}
	chain, err := kube.ParseChain(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", exchange(dir).file(name, ".crt"), err)
	}
	return chain, nil
}
