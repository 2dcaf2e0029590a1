//go:build e2e

package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/lab/cluster"
)

// requireClientsNew proves that every API server uses its new client
// certificates: those for etcd and kubelets on new connections, which would be
// refused with the old ones that have ended by now, and the one for aggregated
// APIs by looking at it.
func requireClientsNew(t *testing.T) {
	t.Helper()
	proxy := watchFrontProxy(t)
	for _, n := range lab.Nodes {
		restartProcess(t, n, "etcd")
		shell(t, n, "systemctl restart kubelet")
		eventually(t, time.Minute, func() error { return lab.Healthy(t.Context()) })
	}
	conf := credentials(t, lab.Path("admin.conf"))
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: conf}}
	for _, n := range lab.Nodes {
		want := onDisk(t, n, pki+"front-proxy-client.crt").SerialNumber.String()
		eventually(t, time.Minute, func() error {
			resp, err := client.Get("https://" + n.Address + ":6443/apis/" + aggregated + "/v1")
			if err != nil {
				return err
			}
			resp.Body.Close()
			if got := proxy.last(n.Address); got != want {
				return fmt.Errorf("%s: status %d; it shows the front-proxy-client certificate %q, on disk is %q", n.Host, resp.StatusCode, got, want)
			}
			return nil
		})
	}
}

// restartProcess kills a component's process and waits for another one.
func restartProcess(t *testing.T, n cluster.Node, component string) {
	t.Helper()
	pid := shell(t, n, "pgrep -of '^"+component+" '")
	shell(t, n, "kill "+pid)
	eventually(t, time.Minute, func() error {
		now, err := lab.Shell(t.Context(), n, "pgrep -of '^"+component+" '")
		if err == nil && now == pid {
			err = fmt.Errorf("%s on %s still runs", component, n.Host)
		}
		return err
	})
}

const aggregated = "lab.certbook"

// frontProxy is an aggregated API that remembers which client certificate each
// API server has shown.
type frontProxy struct {
	mu   sync.Mutex
	seen map[string]string // address to serial number
}

func (p *frontProxy) last(address string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[address]
}

// watchFrontProxy serves an aggregated API on this machine's side of the lab's
// network and registers it.
func watchFrontProxy(t *testing.T) *frontProxy {
	t.Helper()
	p := &frontProxy{seen: map[string]string{}}
	listener, err := tls.Listen("tcp", net.JoinHostPort(cluster.Gateway, "0"), &tls.Config{
		Certificates: []tls.Certificate{selfSigned(t)}, ClientAuth: tls.RequestClientCert,
	})
	require.NoError(t, err)
	server := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		if len(r.TLS.PeerCertificates) > 0 {
			p.mu.Lock()
			p.seen[host] = r.TLS.PeerCertificates[0].SerialNumber.String()
			p.mu.Unlock()
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Connection", "close") // a new handshake each time
		fmt.Fprintf(w, `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"%s/v1","resources":[]}`, aggregated)
	})}
	server.SetKeepAlivesEnabled(false)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	apply(t, fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: front-proxy, namespace: default}
spec: {type: ExternalName, externalName: %[1]s, ports: [{port: %[2]s}]}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.%[3]s}
spec: {group: %[3]s, version: v1, groupPriorityMinimum: 1000, versionPriority: 10, insecureSkipTLSVerify: true, service: {name: front-proxy, namespace: default, port: %[2]s}}
`, cluster.Gateway, port, aggregated))
	t.Cleanup(func() {
		_, err := lab.Kubectl(t.Context(), "delete", "apiservice", "v1."+aggregated)
		if err != nil && t.Context().Err() == nil {
			t.Log(err)
		}
	})
	return p
}

// apply creates what a manifest says.
func apply(t *testing.T, manifest string) {
	t.Helper()
	_, err := lab.Pipe(t.Context(), lab.Nodes[0], strings.NewReader(manifest), "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "apply", "-f", "-")
	require.NoError(t, err)
}

// selfSigned is a serving certificate that nobody has to trust.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"lab"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
