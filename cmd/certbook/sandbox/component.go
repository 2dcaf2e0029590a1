package sandbox

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"certbook/actions/kube"
)

// component serves what the manifest's flags say until SIGTERM, or until
// standard input ends: the demo has gone.
func component(root, manifest string, stdin io.Reader) error {
	data, err := os.ReadFile(manifest)
	if err != nil {
		return err
	}
	m, err := kube.ParseManifest(manifest, data)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	gone := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, stdin) // any end of it is the end
		close(gone)
	}()
	failed := make(chan error, 4)
	for _, s := range listeners(root, m) {
		go func() { failed <- s.serve() }()
	}
	select {
	case err = <-failed:
	case <-ctx.Done():
	case <-gone:
	}
	return err
}

// server is one port of a component.
type server struct {
	address   string
	cert, key string // files; "" serves a certificate made in memory
	plain     bool
}

func listeners(root string, m kube.Manifest) []server {
	file := func(flag string) string { return filepath.Join(root, m.Args.Value(flag)) }
	address := func(flag string) string {
		_, a, _ := strings.Cut(m.Args.Value(flag), "://")
		return a
	}
	port := net.JoinHostPort("127.0.0.1", m.Args.Value("secure-port"))
	switch m.Component {
	case kube.Etcd:
		return []server{
			{address: address("listen-client-urls"), cert: file("cert-file"), key: file("key-file")},
			{address: address("listen-peer-urls"), cert: file("peer-cert-file"), key: file("peer-key-file")},
			{address: address("listen-metrics-urls"), plain: true},
		}
	case kube.APIServer:
		return []server{{address: port, cert: file("tls-cert-file"), key: file("tls-private-key-file")}}
	}
	return []server{{address: port}}
}

// metrics are those of a member of an etcd of three that are all connected.
const metrics = `etcd_server_has_leader 1
etcd_network_known_peers{Local="1",Remote="1"} 1
etcd_network_known_peers{Local="1",Remote="2"} 1
etcd_network_known_peers{Local="1",Remote="3"} 1
etcd_network_active_peers{Local="1",Remote="2"} 1
etcd_network_active_peers{Local="1",Remote="3"} 1
`

func (s server) serve() error {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/health":
			fmt.Fprint(w, `{"health":"true","reason":""}`)
			return
		case "/metrics":
			fmt.Fprint(w, metrics)
			return
		}
		fmt.Fprint(w, "ok")
	})
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		return err
	}
	if !s.plain {
		config, err := s.tls()
		if err != nil {
			return err
		}
		l = tls.NewListener(l, config)
	}
	return (&http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ErrorLog: nil}).Serve(l)
}

// tls reads the certificate at every handshake, as etcd does and as
// kube-apiserver in effect does; the others make one when they start.
func (s server) tls() (*tls.Config, error) {
	if s.cert != "" {
		return &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(s.cert, s.key)
			return &pair, err
		}}, nil
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	t := template("localhost@demo", nil)
	t.NotBefore, t.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(365*24*time.Hour)
	c, err := sign(&t, authority{&t, key}, key.Public())
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{c.Raw}, PrivateKey: key}}}, nil
}
