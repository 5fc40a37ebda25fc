from whisper_train.cli import main

main()
