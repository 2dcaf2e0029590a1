package hosttest

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine"
)

func testPatterns(t *testing.T, s *suite) {
	for _, n := range []string{"b.crt", "a.crt", "c d.crt", "x.key", ".hidden.crt", "it's.crt", "$HOME.crt"} {
		s.put(t, n, n)
	}
	s.run(t, "mkdir", "-p", s.h.Path(s.at("sub dir")))
	s.put(t, "sub dir/e.crt", "")
	files, err := s.h.ReadFiles(t.Context(), s.at("x.*"), s.at("no*such"), s.at("none"), s.at("*.crt"), s.at("a.crt"), s.at("*/[a-f].crt"))
	require.NoError(t, err)
	var want []string
	for _, n := range []string{"x.key", "$HOME.crt", "a.crt", "b.crt", "c d.crt", "it's.crt", "sub dir/e.crt"} {
		want = append(want, s.at(n))
	}
	require.Equal(t, want, paths(files))
	for _, f := range files[:6] {
		require.Empty(t, f.Err)
		require.Empty(t, f.Target)
		require.Equal(t, strings.TrimPrefix(f.Path, s.dir+"/"), string(f.Data))
	}
	none, err := s.h.ReadFiles(t.Context(), s.at("nothing*"))
	require.NoError(t, err)
	require.Empty(t, none)
	none, err = s.h.ReadFiles(t.Context())
	require.NoError(t, err)
	require.Empty(t, none)
	_, err = s.h.ReadFiles(t.Context(), "relative")
	require.ErrorContains(t, err, "not an absolute path")
}

func testExact(t *testing.T, s *suite) {
	for name, data := range map[string]string{
		"empty": "", "newline": "\n", "no-end": "a\nb", "blank-lines": "\n\na\n\n", "crlf": "a\r\nb\r\n",
		"frames": "F /etc/shadow\nE p\nD 0\nZ\n+x\nX no\n", "utf8": "ä€\n", "latin": "\xe4\xff\n", "long": strings.Repeat("x", 200_000),
		"percent": "%s %d \\n \\\\\n", "most": strings.Repeat("0123456789abcde\n", engine.MaxFileSize/16),
	} {
		f := s.one(t, s.put(t, name, data))
		require.Empty(t, f.Err, name)
		require.True(t, data == string(f.Data), "%s: %d bytes differ from %d: %.100q", name, len(f.Data), len(data), f.Data)
		require.EqualValues(t, len(data), f.Size, name)
		require.NotNil(t, f.Data, name)
	}
}

func testFacts(t *testing.T, s *suite) {
	name := s.put(t, "file", "data")
	s.run(t, "chmod", "640", s.h.Path(name))
	s.run(t, "touch", "-d", "@1700000000.123456789", s.h.Path(name))
	f := s.one(t, name)
	require.EqualValues(t, 0o640, f.Mode)
	require.EqualValues(t, 4, f.Size)
	require.True(t, f.ModTime.Equal(time.Unix(1700000000, 123456789)), "%v", f.ModTime)
	require.False(t, f.Pending)
}

func testUnreadable(t *testing.T, s *suite) {
	s.run(t, "mkdir", "-p", s.h.Path(s.at("m-dir")))
	s.put(t, "n-large", strings.Repeat("x", engine.MaxFileSize+1))
	s.link(t, "nowhere", "o-dangling")
	s.link(t, "p-loop", "p-loop")
	s.run(t, "mkdir", "-p", s.h.Path(s.at("round")))
	for from, to := range map[string]string{"1": "2", "2": "3", "3": "1"} {
		s.link(t, to, "round/"+from)
	}
	round := s.one(t, s.at("round/1"))
	require.Contains(t, round.Err, "leads nowhere")
	s.put(t, "q", "fine")
	files, err := s.h.ReadFiles(t.Context(), s.at("*"))
	require.NoError(t, err)
	require.Equal(t, []string{s.at("m-dir"), s.at("n-large"), s.at("o-dangling"), s.at("p-loop"), s.at("q"), s.at("round")}, paths(files))
	for i, text := range []string{"is a directory", "has 1048577 bytes; at most 1048576 are read", "leads nowhere", "leads nowhere"} {
		require.Contains(t, files[i].Err, text, files[i].Path)
		require.Nil(t, files[i].Data)
	}
	require.EqualValues(t, engine.MaxFileSize+1, files[1].Size)
	require.Equal(t, "fine", string(files[4].Data))
}

func testLinks(t *testing.T, s *suite) {
	s.run(t, "mkdir", "-p", s.h.Path(s.at("real")))
	s.put(t, "real/f", "data")
	s.link(t, "real/f", "relative")
	s.link(t, s.at("real/f"), "absolute") // as the machine sees it
	s.link(t, "relative", "twice")
	s.link(t, "real", "dir")
	for _, name := range []string{"relative", "absolute", "twice", "dir/f"} {
		f := s.one(t, s.at(name))
		require.Equal(t, s.at(name), f.Path)
		require.Equal(t, s.at("real/f"), f.Target, name)
		require.Equal(t, "data", string(f.Data), name)
		require.EqualValues(t, 0o600, f.Mode)
	}
}

func testRedaction(t *testing.T, s *suite) {
	key, _ := newKey(t, "EC PRIVATE KEY")
	conf := "users:\n- name: a\n  user:\n    client-certificate-data: Q0VSVA==\n    client-key-data: " +
		base64.StdEncoding.EncodeToString(key) + "\n    token: abcdef.SECRETSECRET\n    tokenFile: /x\n"
	s.put(t, "admin.conf", conf)
	s.put(t, "both.pem", "before\n"+string(key)+"after\n")
	f := s.one(t, s.at("admin.conf"))
	require.Equal(t, "users:\n- name: a\n  user:\n    client-certificate-data: Q0VSVA==\n    client-key-data: REDACTED\n    token: REDACTED\n    tokenFile: /x\n", string(f.Data))
	require.EqualValues(t, len(conf), f.Size)
	require.Equal(t, "before\nafter\n", string(s.one(t, s.at("both.pem")).Data))
}

// newKey returns a private key as PEM and its public key as DER.
func newKey(t *testing.T, kind string) (private, public []byte) {
	t.Helper()
	var der []byte
	var pub any
	switch kind {
	case "RSA PRIVATE KEY":
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		require.NoError(t, err)
		der, pub = x509.MarshalPKCS1PrivateKey(k), k.Public()
	case "EC PRIVATE KEY":
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		der, err = x509.MarshalECPrivateKey(k)
		require.NoError(t, err)
		pub = k.Public()
	case "PRIVATE KEY":
		p, k, err := ed25519.GenerateKey(rand.Reader)
		require.NoError(t, err)
		der, err = x509.MarshalPKCS8PrivateKey(k)
		require.NoError(t, err)
		pub = p
	}
	public, err := x509.MarshalPKIXPublicKey(pub)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), public
}

func testKeys(t *testing.T, s *suite) {
	want := map[string][]byte{}
	var names []string
	for name, kind := range map[string]string{"rsa.key": "RSA PRIVATE KEY", "ec 'x'.key": "EC PRIVATE KEY", "ed.key": "PRIVATE KEY"} {
		private, public := newKey(t, kind)
		want[s.put(t, name, string(private))] = public
		b64 := base64.StdEncoding.EncodeToString(private)
		for style, text := range map[string]string{
			"plain":  "    client-key-data: " + b64 + "\n    token: x\n",
			"quoted": "    client-key-data: \"" + b64 + "\"\n",
			"json":   `{"users":[{"user":{"client-key-data":"` + b64 + `","x":"y"}}]}`,
			"block":  "    client-key-data: |\n      " + b64[:60] + "\n      " + b64[60:] + "\n    token: x\n",
		} {
			want[s.put(t, name+"."+style, text)] = public
		}
		combined := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("not really")})
		want[s.put(t, name+".combined", string(combined)+string(private))] = public
	}
	for name := range want {
		names = append(names, name)
	}
	names = append(names, s.put(t, "text", "no key"), s.at("missing"), s.dir, s.put(t, "broken", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	got, err := s.h.PublicKeys(t.Context(), names...)
	require.NoError(t, err)
	require.Equal(t, want, got)
	got, err = s.h.PublicKeys(t.Context())
	require.NoError(t, err)
	require.Empty(t, got)
}

// serve starts a TLS server that wants a client certificate, and a plain one.
// A Fake gets the same answers.
func serve(t *testing.T, h engine.Host) (tls, plain *httptest.Server) {
	t.Helper()
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz":
			_, _ = w.Write([]byte("ok"))
		case "/moved":
			http.Redirect(w, r, "/healthz", http.StatusFound)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(strings.Repeat("x", engine.MaxBody+1)))
		}
	})
	tls, plain = httptest.NewTLSServer(answer), httptest.NewServer(answer)
	t.Cleanup(tls.Close)
	t.Cleanup(plain.Close)
	if f, ok := h.(*Fake); ok {
		f.Serve(tls.Listener.Addr().String(), func() ([][]byte, error) { return tls.TLS.Certificates[0].Certificate, nil })
		for _, base := range []string{tls.URL, plain.URL} {
			f.Answer(base+"/healthz", func() (engine.Response, error) { return engine.Response{Status: 200, Body: []byte("ok")}, nil })
			f.Answer(base+"/moved", func() (engine.Response, error) { return engine.Response{Status: 302}, nil })
			f.Answer(base+"/bad", func() (engine.Response, error) {
				return engine.Response{Status: 503, Body: make([]byte, engine.MaxBody)}, nil
			})
		}
	}
	return tls, plain
}

func testHandshake(t *testing.T, s *suite) {
	tls, plain := serve(t, s.h)
	chain, err := s.h.Handshake(t.Context(), tls.Listener.Addr().String())
	require.NoError(t, err)
	require.Equal(t, tls.TLS.Certificates[0].Certificate, chain)
	_, err = s.h.Handshake(t.Context(), plain.Listener.Addr().String())
	require.ErrorContains(t, err, "handshake with "+plain.Listener.Addr().String())
	plain.Close()
	_, err = s.h.Handshake(t.Context(), plain.Listener.Addr().String())
	require.ErrorContains(t, err, "refused")
}

func testGet(t *testing.T, s *suite) {
	tls, plain := serve(t, s.h)
	for _, base := range []string{tls.URL, plain.URL} {
		r, err := s.h.Get(t.Context(), base+"/healthz")
		require.NoError(t, err)
		require.Equal(t, engine.Response{Status: 200, Body: []byte("ok")}, r)
		r, err = s.h.Get(t.Context(), base+"/moved")
		require.NoError(t, err)
		require.Equal(t, 302, r.Status)
		r, err = s.h.Get(t.Context(), base+"/bad")
		require.NoError(t, err)
		require.Equal(t, 503, r.Status)
		require.Len(t, r.Body, engine.MaxBody)
	}
	_, err := s.h.Get(t.Context(), "file:///etc/passwd")
	require.Error(t, err)
}
