package host

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"certbook/engine"
)

// netPatience is the limit of one handshake or one request, when ctx has no
// earlier end.
const netPatience = 15 * time.Second

// Handshake returns the certificate chain that address serves.
func (h *Host) Handshake(ctx context.Context, address string) ([][]byte, error) {
	name, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("handshake: %q is not host:port", address)
	}
	ctx, cancel := context.WithTimeout(ctx, netPatience)
	defer cancel()
	conn, err := h.t.dial(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("handshake with %s: %w", address, err)
	}
	defer conn.Close()
	var chain [][]byte
	conf := &tls.Config{
		ServerName: name,
		// The chain is evidence of what is served, also of an expired or a
		// foreign certificate; nothing is sent to the server, nothing that it
		// says is believed, and the caller compares the chain with a file.
		InsecureSkipVerify: true,
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			chain = raw
			return nil
		},
	}
	err = tls.Client(conn, conf).HandshakeContext(ctx)
	if chain != nil {
		return chain, nil // it may then ask for a client certificate and refuse
	}
	if err == nil {
		err = errors.New("no certificate was served")
	}
	return nil, fmt.Errorf("handshake with %s: %w", address, err)
}

// Get fetches a URL from the host.
func (h *Host) Get(ctx context.Context, rawURL string) (engine.Response, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return engine.Response{}, fmt.Errorf("get: %q is not an http or https URL", rawURL)
	}
	ctx, cancel := context.WithTimeout(ctx, netPatience)
	defer cancel()
	t := &http.Transport{
		Proxy: nil, // the host talks to its own network
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return h.t.dial(ctx, address)
		},
		// Health endpoints of a control plane are asked by address, with
		// certificates that may just have expired; the answer is a status, and
		// no secret is sent.
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true,
	}
	defer t.CloseIdleConnections()
	client := &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, nil)
	if err != nil {
		return engine.Response{}, fmt.Errorf("get: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return engine.Response{}, fmt.Errorf("get: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, engine.MaxBody))
	if err != nil {
		return engine.Response{}, fmt.Errorf("get %s: %w", u.Redacted(), err)
	}
	return engine.Response{Status: resp.StatusCode, Body: body}, nil
}
