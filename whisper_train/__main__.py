from whisper_train.cli import main

main(prog_name="whisper-train")
