package hosttest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certbook/engine"
)

func testWrite(t *testing.T, s *suite) {
	ctx := t.Context()
	for name, data := range map[string][]byte{
		"plain": []byte("text\n"), "empty": {}, "it's $HOME": []byte("x"), "binary": bytes.Repeat([]byte{0, 1, 255, '\n'}, 100_000),
	} {
		require.NoError(t, s.h.WriteFile(ctx, s.at(name), data, engine.FileOptions{}))
		got, err := s.h.ReadSecret(ctx, s.at(name))
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got), name)
		require.EqualValues(t, 0o600, s.one(t, s.at(name)).Mode, name)
	}
	require.NoError(t, s.h.WriteFile(ctx, s.at("mode"), []byte("x"), engine.FileOptions{Mode: 0o644}))
	require.EqualValues(t, 0o644, s.one(t, s.at("mode")).Mode)
	s.clean(t)
}

// clean checks that no temporary file is left.
func (s *suite) clean(t *testing.T) {
	t.Helper()
	files, err := s.h.ReadFiles(t.Context(), s.at(".*"), s.at(".*/*"))
	require.NoError(t, err)
	for _, f := range files {
		require.NotContains(t, f.Path, ".certbook")
	}
}

func testKeeps(t *testing.T, s *suite) {
	ctx := t.Context()
	name := s.put(t, "f", "old")
	s.run(t, "chmod", "640", s.h.Path(name))
	before := s.one(t, name)
	require.NoError(t, s.h.WriteFile(ctx, name, []byte("new"), engine.FileOptions{}))
	f := s.one(t, name)
	require.Equal(t, "new", string(f.Data))
	require.EqualValues(t, 0o640, f.Mode)
	require.Equal(t, before.UID, f.UID)
	require.Equal(t, before.GID, f.GID)
	require.NoError(t, s.h.WriteFile(ctx, name, []byte("new"), engine.FileOptions{Mode: 0o400}))
	require.EqualValues(t, 0o400, s.one(t, name).Mode)
	if strings.TrimSpace(s.run(t, "id", "-u")) != "0" {
		return // only root may give files away
	}
	require.NoError(t, s.h.WriteFile(ctx, name, []byte("a"), engine.FileOptions{Owner: "4321:1234", Mode: 0o604}))
	require.NoError(t, s.h.WriteFile(ctx, name, []byte("b"), engine.FileOptions{}))
	f = s.one(t, name)
	require.Equal(t, []int{4321, 1234, 0o604}, []int{f.UID, f.GID, int(f.Mode)})
	require.Equal(t, "b", string(f.Data))
	require.NoError(t, s.h.WriteFile(ctx, name, []byte("c"), engine.FileOptions{Owner: "root"}))
	f = s.one(t, name)
	require.Equal(t, []int{0, 1234}, []int{f.UID, f.GID})
}

func testWriteLink(t *testing.T, s *suite) {
	s.put(t, "target", "old")
	for name, to := range map[string]string{"to-target": "target", "to-fresh": "fresh", "absolute": s.at("far")} {
		link := s.link(t, to, name)
		to = path.Base(to)
		require.NoError(t, s.h.WriteFile(t.Context(), link, []byte("new "+to), engine.FileOptions{}))
		f := s.one(t, link)
		require.Equal(t, s.at(to), f.Target, "the link is still one")
		require.Equal(t, "new "+to, string(s.one(t, s.at(to)).Data))
	}
}

func testRefuses(t *testing.T, s *suite) {
	ctx := t.Context()
	s.run(t, "mkdir", "-p", s.h.Path(s.at("dir")))
	s.link(t, "loop", "loop")
	name := s.put(t, "f", "old")
	for path, text := range map[string]string{
		s.at("missing/f"): "directory does not exist", s.at("dir"): "is a directory", "relative": "absolute path",
		s.at("dir/"): "path of a file", s.at("loop"): "",
	} {
		err := s.h.WriteFile(ctx, path, []byte("x"), engine.FileOptions{})
		require.ErrorContains(t, err, "write "+path)
		require.ErrorContains(t, err, text)
	}
	err := s.h.WriteFile(ctx, name, []byte("x"), engine.FileOptions{Owner: "certbook-no-such-user"})
	require.ErrorContains(t, err, "certbook-no-such-user")
	require.Equal(t, "old", string(s.one(t, name).Data), "a failure leaves the old file")
	require.ErrorContains(t, s.h.Install(ctx, s.at("missing"), name, engine.FileOptions{}), "no such file")
	require.Equal(t, "old", string(s.one(t, name).Data))
	s.clean(t)
}

func testSave(t *testing.T, s *suite) {
	ctx := t.Context()
	s.run(t, "mkdir", "-p", s.h.Path(s.at("sub dir")))
	name := s.put(t, "sub dir/f", "first")
	s.run(t, "chmod", "640", s.h.Path(name))
	s.run(t, "touch", "-d", "@1600000000.5", s.h.Path(name))
	save := s.at("saved/run 1")
	opt := engine.FileOptions{Save: save}
	for _, data := range []string{"second", "third"} {
		require.NoError(t, s.h.WriteFile(ctx, name, []byte(data), opt))
	}
	f := s.one(t, save+name)
	require.Equal(t, "first", string(f.Data), "the first one that is saved stays")
	require.EqualValues(t, 0o640, f.Mode)
	require.EqualValues(t, 1600000000, f.ModTime.Unix())
	require.Equal(t, "third", string(s.one(t, name).Data))
	require.NoError(t, s.h.WriteFile(ctx, s.at("new"), []byte("x"), opt))
	files, err := s.h.ReadFiles(ctx, save+s.at("new"))
	require.NoError(t, err)
	require.Empty(t, files, "there was nothing to save")
	sum := func(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }
	list := engine.ParseReplaced(s.one(t, save+"/"+engine.ReplacedList).Data)
	require.Len(t, list, 3)
	for i, want := range []engine.Replaced{
		{Old: sum("first"), New: sum("second"), Path: name}, {Old: sum("second"), New: sum("third"), Path: name},
		{Old: "-", New: sum("x"), Path: s.at("new")},
	} {
		require.False(t, list[i].Time.IsZero())
		want.Time = list[i].Time
		require.Equal(t, want, list[i])
	}
	// back again
	require.NoError(t, s.h.Install(ctx, save+name, name, engine.FileOptions{}))
	require.Equal(t, "first", string(s.one(t, name).Data))
}

func testInstall(t *testing.T, s *suite) {
	key, _ := newKey(t, "EC PRIVATE KEY")
	src := s.put(t, "a.key", string(key))
	dst := s.put(t, "b.key", "old")
	s.run(t, "chmod", "640", s.h.Path(dst))
	require.NoError(t, s.h.Install(t.Context(), src, dst, engine.FileOptions{Save: s.at("saved")}))
	got, err := s.h.ReadSecret(t.Context(), dst)
	require.NoError(t, err)
	require.Equal(t, string(key), string(got))
	require.EqualValues(t, 0o640, s.one(t, dst).Mode)
	require.Equal(t, "old", string(s.one(t, s.at("saved")+dst).Data))
	require.NoError(t, s.h.Install(t.Context(), src, s.at("c.key"), engine.FileOptions{}))
	require.EqualValues(t, 0o600, s.one(t, s.at("c.key")).Mode)
	require.NotEmpty(t, s.one(t, src).Path)
	s.clean(t)
}

func testInstallAll(t *testing.T, s *suite) {
	ctx := t.Context()
	key, crt := s.put(t, "new key", "key 2"), s.put(t, "new crt", "crt 2")
	oldKey, oldCrt := s.put(t, "tls.key", "key 1"), s.put(t, "tls crt", "crt 1")
	s.run(t, "chmod", "640", s.h.Path(oldKey))
	opt := engine.FileOptions{Save: s.at("saved")}

	err := s.h.InstallAll(ctx, []engine.Copy{{Src: key, Dst: oldKey}, {Src: s.at("missing"), Dst: oldCrt}}, opt)
	require.ErrorContains(t, err, "missing")
	require.Equal(t, "key 1", string(s.one(t, oldKey).Data), "nothing is replaced when one cannot be prepared")

	require.NoError(t, s.h.InstallAll(ctx, []engine.Copy{{Src: key, Dst: oldKey}, {Src: crt, Dst: oldCrt}, {Src: crt, Dst: s.at("fresh")}}, opt))
	require.Equal(t, "key 2", string(s.one(t, oldKey).Data))
	require.EqualValues(t, 0o640, s.one(t, oldKey).Mode)
	require.Equal(t, "crt 2", string(s.one(t, oldCrt).Data))
	require.Equal(t, "crt 2", string(s.one(t, s.at("fresh")).Data))
	require.EqualValues(t, 0o600, s.one(t, s.at("fresh")).Mode)
	require.Equal(t, "key 1", string(s.one(t, s.at("saved")+oldKey).Data))
	require.Equal(t, "crt 1", string(s.one(t, s.at("saved")+oldCrt).Data))
	require.NoError(t, s.h.InstallAll(ctx, nil, opt))
	s.clean(t)
}

func testSecret(t *testing.T, s *suite) {
	key, _ := newKey(t, "PRIVATE KEY")
	got, err := s.h.ReadSecret(t.Context(), s.put(t, "k", string(key)))
	require.NoError(t, err)
	require.Equal(t, string(key), string(got))
	_, err = s.h.ReadSecret(t.Context(), s.at("missing"))
	require.ErrorContains(t, err, "read "+s.at("missing")+": no such file")
	_, err = s.h.ReadSecret(t.Context(), s.dir)
	require.ErrorContains(t, err, "not a regular file")
}
