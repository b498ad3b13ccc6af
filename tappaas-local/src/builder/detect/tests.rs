use tappaas_core::{ErrorKind, Name, model::Command};

use super::{Ground, Listing, Plan, Wishes, decide};

type Files<'a> = &'a [(&'a str, &'a str)];

fn plan(name: &str, files: Files<'_>) -> Plan {
    let wishes = Wishes {
        name,
        ..Wishes::default()
    };
    decide(&Listing::of(files), &wishes).unwrap()
}

#[track_caller]
fn assert_refused(why: &str, files: Files<'_>) {
    let error = decide(&Listing::of(files), &Wishes::default()).unwrap_err();
    assert!(error.message().contains(why), "{error}");
}

/// The steps, each as one line.
fn steps(plan: &Plan) -> Vec<String> {
    let line = |command: &Command| match command {
        Command::Shell(line) => format!("sh: {line}"),
        Command::Exec(argv) => argv.join(" "),
    };
    plan.steps.iter().map(|step| line(&step.command)).collect()
}

fn web(plan: &Plan) -> String {
    match plan.processes.get(&Name::new("web").unwrap()) {
        Some(Command::Shell(line)) => format!("sh: {line}"),
        Some(Command::Exec(argv)) => argv.join(" "),
        None => "none".to_owned(),
    }
}

fn tools(plan: &Plan) -> Vec<&str> {
    plan.tools.iter().map(|tool| tool.shown.as_str()).collect()
}

const MAIN: &str = "// Copyright\n\n/* more\npackage other */\npackage main\n\nfunc main() {}\n";

#[test]
fn a_folder_with_an_index_and_nothing_else_is_a_static_site() {
    for (file, folder) in [
        ("index.html", ""),
        ("public/index.html", "public"),
        ("dist/index.html", "dist"),
    ] {
        let plan = plan("site", &[(file, ""), ("README.md", "")]);
        assert_eq!(plan.ground, Ground::FileServer { folder });
        assert_eq!((steps(&plan).len(), plan.tools.len()), (0, 0));
    }
    assert_eq!(
        plan(
            "site",
            &[
                ("index.html", ""),
                ("server.js", ""),
                ("package.json", "{}")
            ]
        )
        .ground,
        Ground::Stack
    );
    assert_refused("cannot tell how to build", &[("sub/index.html", "")]);
    assert_refused("cannot tell how to build", &[("README.md", "")]);
    assert_refused("cannot tell how to build", &[]);
}

#[test]
fn a_procfile_says_what_is_started() {
    let plan = plan(
        "app",
        &[
            ("Procfile", "web: ./serve $PORT\nworker: ./work\n"),
            ("serve", ""),
        ],
    );
    assert_eq!(
        (
            plan.detected.as_str(),
            steps(&plan).len(),
            plan.processes.len()
        ),
        ("Procfile", 0, 2)
    );
    assert_eq!(web(&plan), "sh: ./serve $PORT");
    assert_refused("Procfile", &[("Procfile", "web ./serve")]);
    assert_refused("declares no process", &[("Procfile", "# nothing\n")]);
    assert_refused("cannot tell", &[("sub/Procfile", "web: x")]);
    let site = decide(
        &Listing::of(&[("Procfile", "web: ./serve"), ("index.html", "")]),
        &Wishes::default(),
    )
    .unwrap();
    assert_eq!(site.ground, Ground::Stack);
}

#[test]
fn the_only_program_of_a_go_module_is_built() {
    let plan = plan(
        "app",
        &[
            ("go.mod", "module example.com/hello\n\ngo 1.26 // comment\n"),
            ("main.go", MAIN),
            ("main_test.go", MAIN),
            ("lib/lib.go", "package lib"),
        ],
    );
    assert_eq!(plan.detected, "go 1.26, module example.com/hello");
    assert_eq!(tools(&plan), ["Go (go.mod says 1.26)"]);
    assert_eq!(
        steps(&plan),
        ["go build -trimpath -buildvcs=false -o /app/bin/hello ."]
    );
    assert_eq!(web(&plan), "/app/bin/hello");
}

#[test]
fn of_several_go_programs_the_one_named_like_the_module_or_application_is_started() {
    let podinfo = [
        ("go.mod", "module github.com/stefanprodan/podinfo\n"),
        ("cmd/podinfo/main.go", MAIN),
        ("cmd/podcli/main.go", MAIN),
    ];
    assert_eq!(
        steps(&plan("other", &podinfo)),
        ["go build -trimpath -buildvcs=false -o /app/bin/podinfo ./cmd/podinfo"]
    );
    let versioned = [
        ("go.mod", "module \"example.com/tool/v2\""),
        ("cmd/tool/a.go", MAIN),
        ("cmd/aid/a.go", MAIN),
    ];
    assert_eq!(web(&plan("x", &versioned)), "/app/bin/tool");
    let neither = [
        ("go.mod", "module example.com/mono"),
        ("api/a.go", MAIN),
        ("worker/a.go", MAIN),
    ];
    assert_eq!(web(&plan("api", &neither)), "/app/bin/api");
    assert_refused(
        "api (in api), worker (in worker). Say which to start in a Procfile, such as `web: api`",
        &neither,
    );
    let all = [&neither[..], &[("Procfile", "web: api\nworker: worker")]].concat();
    let plan = plan("x", &all);
    assert_eq!(steps(&plan).len(), 2);
    assert_eq!(
        (web(&plan).as_str(), plan.path.as_slice()),
        ("sh: api", &["/app/bin"][..])
    );
}

#[test]
fn what_is_no_program_of_the_go_module_does_not_count() {
    let module = ("go.mod", "module example.com/app");
    let script = ("gen.go", "//go:build ignore\n\npackage main\n");
    let old = ("tools.go", "// +build tools\n\npackage main\n");
    let others = [
        ("vendor/x/main.go", MAIN),
        ("testdata/main.go", MAIN),
        ("_old/main.go", MAIN),
        ("nested/go.mod", "module n"),
        ("nested/main.go", MAIN),
    ];
    let files = [
        &[module, script, old, ("cmd/app/main.go", MAIN)][..],
        &others,
    ]
    .concat();
    assert_eq!(web(&plan("x", &files)), "/app/bin/app");
    assert_refused(
        "has no main package",
        &[module, ("lib.go", "package mainly")],
    );
    let same = [module, ("a/run/main.go", MAIN), ("b/run/main.go", MAIN)];
    assert_refused("b-run (in b/run), run (in a/run)", &same);
}

#[test]
fn a_node_package_is_installed_from_its_lock_and_started_by_its_script() {
    let json = r#"{"name":"shop","version":"1.2.0","engines":{"node":">=20"},"scripts":{"start":"node server.js"},"dependencies":{"x":"1"}}"#;
    let locked = plan(
        "app",
        &[
            ("package.json", json),
            ("package-lock.json", "{}"),
            ("server.js", ""),
        ],
    );
    assert_eq!(locked.detected, "node, package shop 1.2.0");
    assert_eq!(
        tools(&locked),
        ["Node (package.json says >=20)", "npm (package.json)"]
    );
    assert_eq!(steps(&locked), ["npm ci --omit=dev --no-audit --no-fund"]);
    assert_eq!(web(&locked), "sh: node server.js");
    let free = plan("app", &[("package.json", json)]);
    assert_eq!(
        steps(&free),
        ["npm install --no-package-lock --omit=dev --no-audit --no-fund"]
    );
}

#[test]
fn a_node_package_with_a_build_script_is_built_and_pruned() {
    let json = r#"{"scripts":{"build":"tsc","start":"node dist/server.js"},"devDependencies":{"typescript":"5"}}"#;
    let built = plan(
        "app",
        &[("package.json", json), ("package-lock.json", "{}")],
    );
    let expected = [
        "npm ci --include=dev --no-audit --no-fund",
        "npm run build",
        "npm prune --omit=dev --no-audit --no-fund",
    ];
    assert_eq!(steps(&built), expected);
    let site = plan(
        "app",
        &[("package.json", r#"{"scripts":{"build":"vite build"}}"#)],
    );
    assert_eq!(
        (steps(&site), site.ground),
        (vec!["npm run build".to_owned()], Ground::Built)
    );
}

#[test]
fn a_node_package_without_a_start_script_is_started_by_its_main_file() {
    assert_eq!(
        web(&plan(
            "a",
            &[
                ("package.json", r#"{"main":"./src/run.js"}"#),
                ("src/run.js", ""),
                ("server.js", "")
            ]
        )),
        "node src/run.js"
    );
    assert_eq!(
        web(&plan(
            "a",
            &[("package.json", r#"{"main":"gone.js"}"#), ("server.js", "")]
        )),
        "node server.js"
    );
    assert_eq!(
        web(&plan("a", &[("package.json", "{}"), ("index.js", "")])),
        "node index.js"
    );
    assert_eq!(
        web(&plan(
            "a",
            &[(
                "package.json",
                r#"{"scripts":{"prestart":"x","start":"y"}}"#
            )]
        )),
        "npm start"
    );
    assert_refused("cannot tell how to start", &[("package.json", "{}")]);
    assert_refused("cannot read package.json", &[("package.json", "{")]);
    assert_refused(
        "yarn (yarn.lock)",
        &[("package.json", "{}"), ("yarn.lock", ""), ("server.js", "")],
    );
}

#[test]
fn a_python_application_gets_a_virtual_environment() {
    let plan = plan(
        "app",
        &[
            ("requirements.txt", "Requests==2 # http\n\n"),
            ("app.py", ""),
        ],
    );
    let pip = "python3 -m pip --python /app/.venv/bin/python install --no-compile --no-warn-script-location -r requirements.txt";
    assert_eq!(
        steps(&plan)[..2],
        ["python3 -m venv --without-pip /app/.venv", pip]
    );
    assert!(
        steps(&plan)[2].contains("--invalidation-mode unchecked-hash") && plan.steps[2].optional
    );
    assert_eq!(
        (web(&plan).as_str(), plan.path.as_slice()),
        ("python app.py", &["/app/.venv/bin"][..])
    );
    assert_eq!(
        tools(&plan),
        [
            "Python (requirements.txt)",
            "pip (Debian and Ubuntu: python3-pip)"
        ]
    );
}

#[test]
fn python_without_dependencies_needs_no_pip() {
    let empty = plan(
        "app",
        &[("requirements.txt", "# nothing\n"), ("main.py", "")],
    );
    assert_eq!((steps(&empty).len(), tools(&empty).len()), (1, 1));
    let alone = plan("app", &[("main.py", "")]);
    assert_eq!(
        (steps(&alone).len(), web(&alone).as_str()),
        (0, "python3 main.py")
    );
    let tools_only = plan(
        "app",
        &[
            ("pyproject.toml", "[tool.black]\nline-length = 100\n"),
            ("app.py", ""),
        ],
    );
    assert_eq!(steps(&tools_only).len(), 1);
}

#[test]
fn a_python_project_is_installed_itself() {
    let toml = "[project]\nname = \"shop\"\nrequires-python = \">=3.11\"\ndependencies = [\"uvicorn[standard]>=0.30\", \"FastAPI\"]\n";
    let plan = plan(
        "app",
        &[
            ("pyproject.toml", toml),
            ("main.py", "from fastapi import FastAPI\napp = FastAPI()\n"),
        ],
    );
    assert!(steps(&plan)[1].ends_with("--no-warn-script-location ."));
    assert_eq!(plan.detected, "python, project shop");
    assert_eq!(tools(&plan)[0], "Python (pyproject.toml says >=3.11)");
    assert_eq!(
        web(&plan),
        "sh: exec uvicorn --host 0.0.0.0 --port $PORT main:app"
    );
}

#[test]
fn python_servers_are_used_only_when_it_is_sure_how() {
    let flask = (
        "app.py",
        "from flask import Flask\n\napp = Flask(__name__)\n",
    );
    assert_eq!(
        web(&plan(
            "a",
            &[("requirements.txt", "flask\ngunicorn~=22.0"), flask]
        )),
        "sh: exec gunicorn --bind 0.0.0.0:$PORT app:app"
    );
    assert_eq!(
        web(&plan("a", &[("requirements.txt", "flask"), flask])),
        "python app.py"
    );
    assert_eq!(
        web(&plan(
            "a",
            &[
                ("requirements.txt", "flask\ngunicorn"),
                ("app.py", "def make():\n    app = Flask()")
            ]
        )),
        "python app.py"
    );
    let django = [
        ("requirements.txt", "django\ngunicorn"),
        ("manage.py", ""),
        ("shop/wsgi.py", ""),
    ];
    assert_eq!(
        web(&plan("a", &django)),
        "sh: exec gunicorn --bind 0.0.0.0:$PORT shop.wsgi"
    );
    assert_refused(
        "cannot tell how to start",
        &[&django[..], &[("blog/wsgi.py", "")]].concat(),
    );
    assert_refused("cannot tell how to start", &[("requirements.txt", "flask")]);
}

#[test]
fn a_cargo_package_is_installed_into_the_application() {
    let toml = "[package]\nname = \"shop\"\nversion = \"1.0.0\"\nrust-version = \"1.85\"\n";
    let plan = plan(
        "app",
        &[
            ("Cargo.toml", toml),
            ("Cargo.lock", ""),
            ("src/main.rs", ""),
            ("src/bin/aid.rs", ""),
        ],
    );
    assert_eq!(plan.detected, "rust, package shop");
    assert_eq!(
        tools(&plan),
        [
            "Rust (Cargo.toml says 1.85)",
            "a C compiler, to link Rust programs"
        ]
    );
    assert_eq!(
        steps(&plan),
        ["cargo install --path . --bin shop --root /app --no-track --force --locked"]
    );
    assert_eq!(web(&plan), "/app/bin/shop");
}

#[test]
fn of_several_cargo_programs_the_default_or_the_one_named_like_the_package_is_started() {
    let bins = [
        ("src/bin/one.rs", ""),
        ("src/bin/two/main.rs", ""),
        ("src/bin/two/part.rs", ""),
    ];
    let with = |toml: &'static str| [&[("Cargo.toml", toml)][..], &bins].concat();
    assert_eq!(
        web(&plan(
            "a",
            &with("[package]\nname = 'x'\ndefault-run = 'two'")
        )),
        "/app/bin/two"
    );
    assert_eq!(
        web(&plan("one", &with("[package]\nname = 'x'"))),
        "/app/bin/one"
    );
    assert_refused("one, two. Say which", &with("[package]\nname = 'x'"));
    let named =
        "[package]\nname = 'x'\nautobins = false\n[[bin]]\nname = 'x'\npath = 'src/bin/one.rs'";
    assert_eq!(web(&plan("a", &with(named))), "/app/bin/x");
    let renamed = "[package]\nname = 'x'\n[[bin]]\nname = 'serve'\npath = 'src/main.rs'";
    assert_eq!(
        web(&plan("a", &[("Cargo.toml", renamed), ("src/main.rs", "")])),
        "/app/bin/serve"
    );
    assert_refused(
        "no program to build",
        &[("Cargo.toml", "[package]\nname = 'x'"), ("src/lib.rs", "")],
    );
    assert_refused("cannot read Cargo.toml", &[("Cargo.toml", "[package")]);
}

#[test]
fn members_of_a_cargo_workspace_count_and_others_do_not() {
    let top = (
        "Cargo.toml",
        "[workspace]\nmembers = ['crates/*', './tool']\nexclude = ['crates/old']",
    );
    let member = |name: &'static str| match name {
        "api" => ("crates/api/Cargo.toml", "[package]\nname = 'api'"),
        "old" => ("crates/old/Cargo.toml", "[package]\nname = 'old'"),
        _ => ("stray/Cargo.toml", "[package]\nname = 'stray'"),
    };
    let files = [
        top,
        member("api"),
        member("old"),
        member("stray"),
        ("crates/api/src/main.rs", ""),
        ("crates/old/src/main.rs", ""),
        ("stray/src/main.rs", ""),
    ];
    assert_eq!(
        steps(&plan("x", &files)),
        ["cargo install --path crates/api --bin api --root /app --no-track --force"]
    );
}

#[test]
fn several_languages_need_a_procfile_and_are_all_built() {
    let files = [
        ("package.json", r#"{"scripts":{"build":"x"}}"#),
        ("requirements.txt", ""),
        ("app.py", ""),
    ];
    assert_refused(
        "looks like Node (package.json) and Python (requirements.txt): add a Procfile",
        &files,
    );
    let plan = plan(
        "app",
        &[&files[..], &[("Procfile", "web: python app.py")]].concat(),
    );
    assert_eq!(
        steps(&plan),
        ["npm run build", "python3 -m venv --without-pip /app/.venv"]
    );
    assert_eq!(
        (plan.detected.as_str(), plan.path.len()),
        ("node and python", 2)
    );
}

#[test]
fn a_dockerfile_is_not_ignored_silently() {
    let files = [("Dockerfile", "FROM scratch"), ("index.html", "")];
    let error = decide(&Listing::of(&files), &Wishes::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("strategy = \"stack\""), "{error}");
    let explicit = Wishes {
        explicit: true,
        ..Wishes::default()
    };
    assert!(decide(&Listing::of(&files), &explicit).is_ok());
}

#[test]
fn a_build_command_replaces_the_steps_and_the_tools_they_need() {
    let command = Command::Shell("make".to_owned());
    let wishes = Wishes {
        command: Some(&command),
        ..Wishes::default()
    };
    let decide = |files: Files<'_>| decide(&Listing::of(files), &wishes).unwrap();
    let go = decide(&[("go.mod", "module example.com/a"), ("main.go", MAIN)]);
    assert_eq!(
        (steps(&go), web(&go)),
        (vec!["sh: make".to_owned()], "/app/bin/a".to_owned())
    );
    assert!(go.tools.is_empty());
    assert_eq!(steps(&decide(&[("Makefile", "")])), ["sh: make"]);
    assert_eq!(
        steps(&decide(&[("Gemfile", ""), ("Procfile", "web: x")])),
        ["sh: make"]
    );
    // What detection could not decide is no longer its business.
    assert_eq!(
        web(&decide(&[("package.json", "{}"), ("yarn.lock", "")])),
        "none"
    );
}

#[test]
fn other_languages_are_named() {
    assert_refused("looks like Ruby (Gemfile)", &[("Gemfile", "")]);
    assert_refused(
        "looks like Java (pom.xml)",
        &[("pom.xml", ""), ("index.html", "")],
    );
}
