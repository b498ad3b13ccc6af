package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"runtime"
)

// image is an archive with an image of one program, in the form of the OCI Image Layout Specification.
type image struct {
	archive    []byte
	repository string
	// reference names it by its digest.
	reference string
}

// makeImage makes an image whose program has other names as well.
func makeImage(repository, program string, names ...string) (*image, error) {
	content, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	files := []file{{name: "program", mode: 0o755, content: content}}
	for _, name := range names {
		files = append(files, file{name: "bin/" + name, mode: 0o777, target: "/program"})
	}
	layer, err := archive(files...)
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(object{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config":       object{"Entrypoint": []string{"/program"}, "Env": []string{"PATH=/bin"}, "User": "65535:65535"},
		"rootfs":       object{"type": "layers", "diff_ids": []string{digest(layer)}},
	})
	if err != nil {
		return nil, err
	}
	const kind = "application/vnd.oci.image."
	manifest, err := json.Marshal(object{
		"schemaVersion": 2,
		"mediaType":     kind + "manifest.v1+json",
		"config":        descriptor(kind+"config.v1+json", config),
		"layers":        []object{descriptor(kind+"layer.v1.tar", layer)},
	})
	if err != nil {
		return nil, err
	}
	entry := descriptor(kind+"manifest.v1+json", manifest)
	entry["annotations"] = object{"io.containerd.image.name": repository + ":1"}
	index, err := json.Marshal(object{"schemaVersion": 2, "manifests": []object{entry}})
	if err != nil {
		return nil, err
	}
	files = []file{
		{name: "oci-layout", mode: 0o644, content: []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{name: "index.json", mode: 0o644, content: index},
	}
	for _, blob := range [][]byte{layer, config, manifest} {
		files = append(files, file{name: "blobs/sha256/" + digest(blob)[len("sha256:"):], mode: 0o644, content: blob})
	}
	whole, err := archive(files...)
	return &image{archive: whole, repository: repository, reference: repository + "@" + digest(manifest)}, err
}

type file struct {
	name    string
	mode    int64
	content []byte
	// target makes it a symbolic link.
	target string
}

func archive(files ...file) ([]byte, error) {
	var out bytes.Buffer
	writer := tar.NewWriter(&out)
	for _, file := range files {
		header := &tar.Header{Name: file.name, Mode: file.mode, Size: int64(len(file.content))}
		if file.target != "" {
			header.Typeflag, header.Linkname = tar.TypeSymlink, file.target
		}
		if err := writer.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := writer.Write(file.content); err != nil {
			return nil, err
		}
	}
	err := writer.Close()
	return out.Bytes(), err
}

func descriptor(kind string, content []byte) object {
	return object{"mediaType": kind, "digest": digest(content), "size": len(content)}
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}
