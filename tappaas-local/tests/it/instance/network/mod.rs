mod apart;
mod bridged;
mod outside;
mod private;
